"""Against imbalance: how much each training image weighs, and how often it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Balance:
    """What is done about imbalance in training; at most one of the two is there.

    Attributes:
        weights: on the loss of each image (n,) or of each of its labels (n, labels); mean 1.
        draws: how often each image is drawn in an epoch, on average (n,); mean 1.
    """

    weights: np.ndarray | None = None
    draws: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray | None:
        """Weights for a problem that is solved on all images at once, instead of by draws."""
        return self.weights if self.draws is None else self.draws

    def order(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the indices of an epoch of `count` images, in random order.

        Each is drawn as often as `draws` says, rounded up or down at random (systematic sampling,
        Madow 1949): less by chance than with independent draws, and none is forgotten for long.
        """
        shuffled = random.permutation(count)
        if self.draws is None:
            return shuffled
        ends = np.cumsum(self.draws[shuffled])
        marks = (np.arange(count) + random.random()) * ends[-1] / count
        return random.permutation(shuffled[np.searchsorted(ends, marks, side="right")])


UNBALANCED = Balance()
"""Nothing is done: each image weighs 1 and is drawn once."""


def inverse_frequency(counts: np.ndarray) -> np.ndarray:
    """Return a weight for each class from its count: n / (classes * count).

    Each class then weighs as much in all as any other, and the mean over the examples is 1 (King &
    Zeng 2001; scikit-learn's `class_weight="balanced"`). 0 for a class that is not there.
    """
    there = counts > 0
    return np.where(there, counts.sum() / (there.sum() * np.maximum(counts, 1)), 0.0)
