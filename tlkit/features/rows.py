"""Features of some images, in order: at one tensor, or at several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows:
    """Features of some images at one tensor, lying in arrays or mapped shards.

    Args:
        shards: each (rows, ...).
        shard_of: of each image the number of the shard that it lies in.
        row_of: of each image its row there.
    """

    def __init__(self, shards: list[np.ndarray], shard_of: np.ndarray, row_of: np.ndarray):
        self._shards, self._shard_of, self._row_of = shards, shard_of, row_of

    def __len__(self) -> int:
        return len(self._row_of)

    def take(self, chosen: Any = slice(None)) -> np.ndarray:
        """Return the features of the chosen images as float32 (n, ...)."""
        shard_of, row_of = self._shard_of[chosen], self._row_of[chosen]
        out = np.empty((len(row_of), *self._shards[0].shape[1:]), np.float32)
        for number in np.unique(shard_of):
            here = shard_of == number
            out[here] = self._shards[number][row_of[here]]
        return out

    __getitem__ = take

    def numbers(self, chosen: Any, part: slice) -> np.ndarray:
        """Return a part of the flattened features of the chosen images, float32 (n, numbers)."""
        shard_of, row_of = self._shard_of[chosen], self._row_of[chosen]
        flat = [shard.reshape(len(shard), -1)[:, part] for shard in self._shards]
        out = np.empty((len(row_of), flat[0].shape[1]), np.float32)
        for number in np.unique(shard_of):
            here = shard_of == number
            out[here] = flat[number][row_of[here]]
        return out


class JointRows:
    """Features of the same images at several tensors."""

    def __init__(self, parts: Sequence[Rows]):
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return len(self._parts[0])

    def take(self, chosen: Any = slice(None)) -> tuple[np.ndarray, ...]:
        """Return the features of the chosen images, float32 (n, ...) for each tensor.

        Of several inputs Keras takes a tuple from a generator, not a list.
        """
        return tuple(rows.take(chosen) for rows in self._parts)


def side_by_side(parts: Sequence[Rows]) -> Rows | JointRows:
    """Return features as the suffix of a cut takes them: alone, or those of several tensors."""
    return parts[0] if len(parts) == 1 else JointRows(parts)
