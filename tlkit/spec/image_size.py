"""`image_size` as people write it: `224`, or `360x480` for height and width."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from tlkit.backbones.sides import Size
from tlkit.errors import received

LARGEST = 16_384
"""Most pixels a side."""

_OBLONG = re.compile(r"\s*(\d{1,9})\s*[xX\u00d7]\s*(\d{1,9})\s*")


def _read(value: Any) -> Any:
    """Return a side as a number, or two that differ as `HEIGHTxWIDTH`.

    Raises:
        ValueError: it is neither, or out of range.
    """
    if value is None:
        return value
    found = _OBLONG.fullmatch(value) if isinstance(value, str) else None
    if found:
        sides = [found[1], found[2]]
    elif isinstance(value, list | tuple) and len(value) == 2:
        sides = list(value)
    else:
        sides = [value]
    numbers = [_whole(side, value) for side in sides]
    for number in numbers:
        if number < 1:
            raise ValueError(f"should be greater than 0. Received: {received(value)}")
        if number > LARGEST:
            raise ValueError(
                f"should be less than or equal to {LARGEST}. Received: {received(value)}"
            )
    return numbers[0] if len(set(numbers)) == 1 else "x".join(map(str, numbers))


def _whole(side: Any, value: Any) -> int:
    try:
        if not isinstance(side, bool) and int(side) == float(side):
            return int(side)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        "Allowed: pixels of the side of a square, such as 224, or HEIGHTxWIDTH, such as 360x480. "
        f"Received: {received(value)}"
    )


def as_size(value: int | str) -> Size:
    """Return what `ImageSize` holds as a side, or as height and width."""
    if isinstance(value, int):
        return value
    height, width = value.split("x")
    return int(height), int(width)


ImageSize = Annotated[int | str, BeforeValidator(_read)]
