"""What the values in masks mean: `0=background`, `255=person`, `ff0000=car`, `128=void`."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

VOID = 255
"""Class number of pixels that are neither trained on nor measured: that of the 21st colour of
PASCAL VOC's masks (Everingham et al. 2010, section 4.1), and what Keras's `ignore_class` gets."""

NOTHING = "void"
"""What such pixels are called."""

MOST = VOID
"""Classes that there may be: one byte, less `VOID`."""

_VALUE = re.compile(r"(?P<colour>[0-9a-fA-F]{6})|(?P<number>\d{1,5})")


@dataclass(frozen=True)
class Coding:
    """Values of masks and the classes that they stand for.

    Attributes:
        values: `VALUE=NAME` each, in the order of the classes; a value is a number, or a colour of
            six hexadecimal digits. Several values may stand for one class; `void` is none.

    Raises:
        ValueError: one is written otherwise, stands there twice, or numbers stand beside colours.

    Example:
        >>> Coding(("0=background", "255=person", "128=void")).classes
        ('background', 'person')
    """

    values: tuple[str, ...] = ()

    def __post_init__(self):
        kinds, seen = set(), set()
        for text in self.values:
            found = _VALUE.fullmatch(text.partition("=")[0].strip())
            if not found or not text.partition("=")[2].strip():
                raise ValueError(
                    "is written VALUE=NAME, the value a number or a colour of six hexadecimal "
                    f"digits. Allowed: such as [0=background, 255=person]. Received: {text!r}"
                )
            if found[0].lower() in seen:
                raise ValueError(f"says twice what a value means. Received: {text!r}")
            seen.add(found[0].lower())
            kinds.add(found.lastgroup)
        if len(kinds) > 1:
            raise ValueError(
                "holds numbers and colours. Allowed: one of both. Received: "
                + ", ".join(self.values)
            )
        if self.values and not 2 <= len(self.classes) <= MOST:
            raise ValueError(
                f"names the classes. Allowed: 2 to {MOST} beside void. Received: "
                f"{len(self.classes)}"
            )

    @property
    def colours(self) -> bool:
        """Whether the values are colours."""
        first = _VALUE.fullmatch(self.values[0].partition("=")[0].strip()) if self.values else None
        return first is not None and first.lastgroup == "colour"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order, each once."""
        names = (name for _, name in self._pairs())
        return tuple(dict.fromkeys(name for name in names if name != NOTHING))

    @functools.cached_property
    def table(self) -> dict[int, int]:
        """The class number of each value (a colour as 0xRRGGBB), `VOID` of void."""
        number = {name: i for i, name in enumerate(self.classes)} | {NOTHING: VOID}
        return {int(value, 16 if self.colours else 10): number[n] for value, n in self._pairs()}

    def _pairs(self) -> list[tuple[str, str]]:
        pairs = (text.partition("=") for text in self.values)
        return [(value.strip(), name.strip()) for value, _, name in pairs]
