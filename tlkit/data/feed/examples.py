"""A part of the data, as training and measuring ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.column import Column
from tlkit.data.targets import Label

Batches = Iterable[tuple[Any, ...]]


Encode = Callable[[Sequence[Label]], Column]


@dataclass(frozen=True)
class Examples:
    """One part of the data as training sees it.

    Attributes:
        digests: content hash of each image, in order, with how it is shown where that matters.
        targets: a row for each, as the task encodes it.
        batches: makes a pipeline of (images, targets) of the images with these indices,
            unchanged and in order.
        epochs: of the training part, makes the pipeline of a fitted phase: all images, in
            another order in each epoch; arguments: whether they are augmented, and which epochs,
            `range(1)` unless told.
        balance: what is done about imbalance; in `epochs` it is done.
        views: of the training part, how many views of each image `all_views` holds.
        all_views: of the training part, the views of all its images for which features are kept:
            all as they are, then all in a first random change, in a second, and so on.
        groups: a number for each image (n,), the same in all parts: those of one number belong
            together and stay on one side of every fold. None: each stands alone.
        batch_size: images in a batch of these pipelines.
        smaller: returns the same part in batches of another size.
    """

    digests: Sequence[str]
    targets: Column
    batches: Callable[[Sequence[int]], Batches]
    epochs: Callable[..., Batches] | None = None
    balance: Balance = UNBALANCED
    views: int = 1
    all_views: Examples | None = None
    groups: np.ndarray | None = None
    batch_size: int = 32
    smaller: Callable[[int], Examples] | None = None

    def batched(self, size: int) -> Examples:
        """Return the same part in batches of `size`."""
        return self if size == self.batch_size else self.smaller(size)

    def __len__(self) -> int:
        return len(self.digests)


def joint_groups(*parts: Examples) -> np.ndarray | None:
    """Return the group numbers of several parts, one after the other; None: all stand alone."""
    groups = [part.groups for part in parts]
    if any(own is None for own in groups):
        return None
    joint = np.concatenate(groups)
    return joint if len(np.unique(joint)) < len(joint) else None


class TargetEncoder(Protocol):
    """What training examples need of a task (`tlkit.tasks.task.Task`)."""

    def encode(self, labels: Sequence[Label]) -> Column:
        """Turn labels into targets."""

    def soften(self, targets: np.ndarray) -> np.ndarray:
        """Return targets that may be mixed."""

    def balance(self, targets: Column, kind: str) -> Balance:
        """Return what is done about imbalance."""
