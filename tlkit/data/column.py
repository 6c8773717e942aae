"""The target column: what is to be answered of each example of a part, in order."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from tlkit.backbones.sides import Size
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


class Geometry(Protocol):
    """What moves points of images: `feed.augment.Augmenter`."""

    def matrices(self, height: Any, width: Any, size: Size, seed: Any) -> tuple[Any, Any]:
        """Return where points go, two matrices float32 (3, 3): see there."""


C = TypeVar("C", bound=Column)


def select(column: C, indices: Sequence[int]) -> C:
    """Return the column of the rows with these indices."""
    return column[indices] if isinstance(column, np.ndarray) else column.select(indices)


class Remembered:
    """A column whose rows are read once, and then held in memory, compressed.

    A mask of 224 x 224 pixels takes 1 to 2 KB so; to read it takes about as long as a training step
    on kept features takes for an image.

    Args:
        column: of rows of one shape and type.
    """

    def __init__(self, column: Column):
        self._column = column
        self._rows: dict[int, bytes] = {}
        self._like: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        new = list(dict.fromkeys(int(i) for i in chosen if int(i) not in self._rows))
        if new:
            rows = self._column[new]
            self._like = rows[0]
            for i, row in zip(new, rows, strict=True):
                self._rows[i] = zlib.compress(np.ascontiguousarray(row), 1)
        like = self._like
        out = np.empty((len(chosen), *like.shape), like.dtype)
        for place, i in enumerate(chosen):
            content = zlib.decompress(self._rows[int(i)])
            out[place] = np.frombuffer(content, like.dtype).reshape(like.shape)
        return out


def remembered(column: Column) -> Column:
    """Return the column with rows that are read once; an array as it is."""
    return column if isinstance(column, np.ndarray) else Remembered(column)


def seen_by(column: C, changes: Geometry | None, seeds: np.ndarray, size: Size) -> C:
    """Return the targets of images that are changed by these seeds.

    Args:
        changes: what changes them; None: none is changed.
        seeds: int32 (n, 2), below 0: the image stays as it is.
        size: size of the model's input, see `sides`.
    """
    still = changes is None or (seeds < 0).all()
    return (
        column if still or isinstance(column, np.ndarray) else column.seen_by(changes, seeds, size)
    )


def read_by(column: C, reading: LabelReading) -> C:
    """Return the column whose files are read by `reading`, held against their scan."""
    return column if isinstance(column, np.ndarray) else column.read_by(reading)
