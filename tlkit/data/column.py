"""The target column: what is to be answered of each example of a part, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from tlkit.data.example import FileLabel


class LabelReading(Protocol):
    """What reads the files of labels: `scan.reading.Reading`."""

    def read_label(self, label: FileLabel) -> bytes:
        """Return the content of a label's file."""


class Column(Protocol):
    """Targets of examples. An array (n, ...) is one: nothing is copied, nothing converted.

    Rows that do not fit in memory lie in files, and are read when they are asked for:
    `masks.Masks`.
    """

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Return the rows with these indices (len(indices), ...), as the loss takes them."""


C = TypeVar("C", bound=Column)


def select(column: C, indices: Sequence[int]) -> C:
    """Return the column of the rows with these indices."""
    return column[indices] if isinstance(column, np.ndarray) else column.select(indices)


def read_by(column: C, reading: LabelReading) -> C:
    """Return the column whose files are read by `reading`, held against their scan."""
    return column if isinstance(column, np.ndarray) else column.read_by(reading)
