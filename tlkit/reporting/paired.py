"""Runs measured on the same images, pair by pair: is one better, or was it chance?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from tlkit.tasks.metrics import wilson_interval
from tlkit.tasks.shown import RESAMPLES, bootstrap

LEVEL = 0.05
"""Below this adjusted p-value two runs are told apart."""


@dataclass(frozen=True)
class Pair:
    """Two runs on the same images.

    Attributes:
        first, second: numbers of the runs.
        difference: mean of the first less that of the second, and its 95% interval by resampled
            images.
        only_first, only_second: images that one alone has right; None where answers are not
            simply right or wrong.
        p: two-sided: of the exact McNemar test, or of the bootstrap.
        adjusted: by Holm (1979), over all pairs.
    """

    first: int
    second: int
    difference: float
    interval: tuple[float, float] | None
    only_first: int | None
    only_second: int | None
    p: float
    adjusted: float = 1.0

    @property
    def told_apart(self) -> bool:
        return self.adjusted < LEVEL


def mean_of(scores: np.ndarray) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of scores (n,) and its 95% interval: Wilson's of shares, else a bootstrap."""
    mean, count = float(scores.mean()), len(scores)
    if _binary(scores):
        low, high = wilson_interval(int(scores.sum()), count)
        return mean, (low, high)
    return mean, bootstrap(lambda drawn: drawn @ scores / count, count)


def ends(interval: Sequence[float] | None) -> str:
    """Return an interval as it is read; "" for None."""
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _binary(*scores: np.ndarray) -> bool:
    return bool(np.isin(np.concatenate(scores), (0, 1)).all())


def paired(scores: Sequence[np.ndarray]) -> list[Pair]:
    """Return all pairs of runs, compared.

    Args:
        scores: of each run, a number for each image (n,): 1 for right and 0 for wrong, or errors.
    """
    pairs = [
        _pair(i, j, scores[i], scores[j]) for i, j in itertools.combinations(range(len(scores)), 2)
    ]
    adjusted = holm([pair.p for pair in pairs])
    return [Pair(**{**vars(p), "adjusted": q}) for p, q in zip(pairs, adjusted, strict=True)]


def _pair(i: int, j: int, first: np.ndarray, second: np.ndarray) -> Pair:
    gap, count = (first - second).astype(np.float64), len(first)
    means: list[np.ndarray] = []

    def statistic(drawn: np.ndarray) -> np.ndarray:
        means.append(drawn @ gap / count)
        return means[-1]

    interval = bootstrap(statistic, count)
    only_first = only_second = None
    if _binary(first, second):
        only_first, only_second = int((gap > 0).sum()), int((gap < 0).sum())
        p = mcnemar(only_first, only_second)
    elif means:
        drawn = np.concatenate(means)
        tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        p = min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))
    else:
        p = 1.0
    return Pair(i, j, float(gap.mean()), interval, only_first, only_second, p)


def mcnemar(first: int, second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Args:
        first, second: images that one classifier alone has right; those on which both agree say
            nothing (Dietterich 1998, section 3.1).
    """
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, step-down (Holm 1979)."""
    order = np.argsort(values, kind="stable")
    adjusted, highest = [1.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, values[i] * (len(values) - rank)))
        adjusted[i] = highest
    return adjusted
