"""How boxes are read, checked and spread over parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tlkit.data.annotations import Annotations, Box
from tlkit.data.names import checked, sorted_labels
from tlkit.data.numbers import read_number
from tlkit.data.targets import Label, Targets, check_known
from tlkit.data.wording import number
from tlkit.errors import DataError

CORNERS = ("x1", "y1", "x2", "y2")
"""Columns of a table with the corners of a box in pixels."""


@dataclass(frozen=True)
class BoxTargets(Targets):
    """One box and its class an image."""

    task: ClassVar[str] = "localisation"
    family: ClassVar[str] = "boxes"
    kind: ClassVar[type] = Annotations
    images: ClassVar[int] = 3
    stored: ClassVar[str | None] = "boxes"

    def columns(self) -> list[str]:
        return [self.table.label, *CORNERS]

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        cells = [row[name] for row in rows for name in CORNERS if row[name]]
        values = [read_number(cell, f"{where}: x1, y1, x2, y2") for cell in cells]
        if values and max(values) <= 1:
            raise DataError(
                f"{where}: x1, y1, x2, y2 are corners of boxes in pixels. Allowed: numbers of "
                f"pixels. Received: none above 1, as if they were fractions"
            )
        return self, [
            f"boxes are read from the columns x1, y1, x2, y2 (pixels): the task is {self.task}; "
            "one class an image: --set task=classification"
        ]

    def is_labelled(self, row: dict[str, str]) -> bool:
        return True  # a row without a box says that there is none

    def from_row(self, row: dict[str, str], where: str) -> Annotations:
        cells = [row[name] for name in self.columns()]
        if not any(cells):
            return Annotations(())
        for name in self.columns():
            if not row[name]:
                raise DataError(
                    f"{where}: {name} is empty. Allowed: a class and four numbers, or nothing in "
                    "all five columns for an image without a box"
                )
        name = checked(row[self.table.label], f"{where}: {self.table.label}")
        corners = tuple(read_number(row[column], f"{where}: {column}") for column in CORNERS)
        return Annotations((Box(name, corners),), places=(where.removeprefix("data "),))

    def from_array(self, value: Any, where: str) -> Label:
        raise DataError(f"{where}: boxes beside arrays are not read. Allowed: files with boxes")

    def join(self, labels: Sequence[Label]) -> Label | None:
        if not all(isinstance(label, Annotations) for label in labels):
            return None
        first, *others = labels
        for label in others:
            first = first.joined(label)
        return first

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        examples = list(examples)
        self.check_counted(name, "training", examples)
        found = {name for e in examples for name in e.label.names}
        if not found:
            raise DataError(
                f"{name}: no image has a box. Received: {number(len(examples), 'image')}"
            )
        return tuple(sorted_labels(found))

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        examples = list(examples)
        self.check_counted(name, part, examples)
        found = {name for e in examples for name in e.label.names}
        check_known(name, part, found, outputs, "classes")

    def names_in(self, label: Label) -> tuple[str, ...]:
        return label.names

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        return None if set(label.names) & set(dropped) else label

    def strata(self, examples: Sequence[Any]) -> list[str]:
        return [next(iter(example.label.names), "") for example in examples]

    def check_counted(self, name: str, part: str, examples: Sequence[Any]) -> None:
        """Refuse images with several boxes."""
        several = [e for e in examples if len(e.label.sound) > 1]
        if several:
            first = several[0]
            raise DataError(
                f"{name}: {number(len(several), 'image')} of {len(examples):,} in the {part} data "
                f"have more than one box, such as {first.id} with {len(first.label.sound)}. "
                "Allowed for the task localisation: one box an image. To find several objects in "
                "an image: --set task=detection"
            )


@dataclass(frozen=True)
class DetectionTargets(BoxTargets):
    """Any number of boxes and their classes an image."""

    task: ClassVar[str] = "detection"
    empties: ClassVar[bool] = True

    def check_counted(self, name: str, part: str, examples: Sequence[Any]) -> None:
        """Any number will do."""

    def strata(self, examples: Sequence[Any]) -> list[str]:
        # By the rarest class in it: the one that could be missing from a part.
        counts = Counter(name for e in examples for name in e.label.names)
        return [min(e.label.names, key=lambda x: (counts[x], x), default="") for e in examples]
