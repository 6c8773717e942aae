"""Batches of features: kept ones, and those computed on the way."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tlkit.compute import engines
from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.column import Column
from tlkit.data.feed.examples import Batches
from tlkit.data.feed.pipeline import epoch_order
from tlkit.features.rows import JointRows, Rows


class FeatureBatches:
    """Batches of kept features; of some epochs, each in its own order, where `seed` is given.

    The order depends on the seed and the epoch alone, never on what was read before. Weights for
    the loss, where `balance` has some, come third in a batch.

    Args:
        rows: of `views` views of all images, view after view; each epoch takes another one of an
            image, neighbours different ones.
        targets: of the same views, in the same order.
    """

    def __init__(
        self,
        rows: Rows | JointRows,
        targets: Column,
        batch_size: int,
        seed: int | None = None,
        balance: Balance = UNBALANCED,
        epochs: range = range(1),
        views: int = 1,
    ):
        self._views, self._images = views, len(targets) // views
        self._rows, self._targets, self._size, self._balance = rows, targets, batch_size, balance
        self._seed, self._epochs = seed, epochs
        self._count = len(rows) // views
        self._order = functools.lru_cache(2)(self._draw)

    def __len__(self) -> int:
        return len(self._epochs) * math.ceil(self._images / self._size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        epochs, step = divmod(index, math.ceil(self._images / self._size))
        epoch = self._epochs[epochs]
        chosen = self._order(epoch)[step * self._size : (step + 1) * self._size]
        view = (chosen + epoch) % self._views
        places = chosen + view * self._images
        batch = self._rows.take(places), self._targets[places]
        weights = self._balance.weights
        return batch if weights is None else (*batch, weights[chosen])

    def _draw(self, epoch: int) -> np.ndarray:
        if self._seed is None:
            return np.arange(self._images)
        return epoch_order(self._images, self._seed, epoch, self._balance)


def computed(prefix: engines.Function, batches: Batches) -> Iterator[tuple[Any, ...]]:
    """Yield (features, targets and, if any, weights), computed anew."""
    for images, *own in batches:
        features = prefix(np.asarray(images, np.float32))
        # As kept ones come, see `JointRows.take`.
        inputs = tuple(features) if isinstance(features, list) else features
        yield inputs, *map(np.asarray, own)
