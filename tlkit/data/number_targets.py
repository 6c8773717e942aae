"""Numbers as labels of images: how they are read, checked and spread over parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tlkit.data.numbers import has_decimal_comma, read_number
from tlkit.data.targets import Targets
from tlkit.errors import DataError

BINS = 10
"""Groups of equal size into which numbers are sorted, so that each part gets small and large."""


@dataclass(frozen=True)
class NumberTargets(Targets):
    """One or several numbers an image."""

    task: ClassVar[str] = "regression"
    stored: ClassVar[str | None] = "numbers"
    plural: ClassVar[str] = "numbers"
    images: ClassVar[int] = 3
    comma: bool = False
    named_by: ClassVar[frozenset[str]] = frozenset({"label", "targets"})

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        cells = [row[name] for row in rows for name in self.columns()]
        if not has_decimal_comma(cells, separator):
            return self, []
        shown = next(cell for cell in cells if "," in cell)
        note = f"numbers have a decimal comma: {shown} is read as {shown.replace(',', '.')}"
        return replace(self, comma=True), [note]

    def from_row(self, row: dict[str, str], where: str) -> tuple[float, ...]:
        columns = self.columns()
        return tuple(read_number(row[name], f"{where}: {name}", self.comma) for name in columns)

    def from_array(self, value: Any, where: str) -> tuple[float, ...]:
        return tuple(read_number(x, where) for x in np.asarray(value).ravel().tolist())

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        counts = {len(example.label) for example in examples}
        if len(counts) != 1:
            raise DataError(f"{name}: each image needs equally many numbers. Received: {counts}")
        (count,) = counts
        if self.names and len(self.names) != count:
            raise DataError(
                f"{name}: class_names must name each number. Allowed: {count} names. "
                f"Received: {', '.join(self.names)}"
            )
        if self.names:
            return self.names
        if count == len(self.columns()):
            return tuple(self.columns())
        return tuple(f"{self.table.label}_{i}" for i in range(count))

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        counts = {len(example.label) for example in examples} - {len(outputs)}
        if counts:
            raise DataError(
                f"{name}: the {part} data has another number of targets than the training data. "
                f"Allowed: {len(outputs)}. Received: {counts.pop()}"
            )

    def strata(self, examples: Sequence[Any]) -> list[str]:
        order = sorted(range(len(examples)), key=lambda i: (examples[i].label, examples[i].id))
        size = max(math.ceil(len(examples) / BINS), BINS)
        groups = [""] * len(examples)
        for place, i in enumerate(order):
            groups[i] = f"{place // size:03d}"
        return groups
