"""How well maps of classes fit: sums over pixels, boundaries, intervals over images."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from tlkit.spec.coding import VOID

NEAR = 0.0075
"""Share of the diagonal within which two boundaries meet: that of the boundary F measure of Csurka
et al. 2013, section 3.1, and of Perazzi et al. 2016 (DAVIS)."""

RESAMPLES = 1000
"""Bootstrap samples of images for an interval (Efron & Tibshirani 1993, section 13.3)."""


def confusion_of(truth: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """Return how many pixels of each class (row) were given which (column), void left out.

    Args:
        truth, given: class numbers uint8 of one shape.
    """
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * classes + given[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def shares_of(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return IoU and Dice of each class (classes,), NaN where it is in neither truth nor answer."""
    both = np.diag(confusion).astype(float)
    sums = confusion.sum(axis=0) + confusion.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return both / (sums - both), 2 * both / sums


def boundaries(numbers: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Return the pixels that have another class to their right or below, bool (height, width).

    A border with void, or within it, is none.
    """
    found = np.zeros(numbers.shape, bool)
    right = (numbers[:, 1:] != numbers[:, :-1]) & ~void[:, 1:] & ~void[:, :-1]
    below = (numbers[1:] != numbers[:-1]) & ~void[1:] & ~void[:-1]
    found[:, :-1] |= right
    found[:-1] |= below
    return found


def boundary_f(truth: np.ndarray, given: np.ndarray) -> float | None:
    """Return the F measure of boundary pixels that lie within `NEAR` of one of the other side.

    Returns:
        None where neither has a boundary; 0 where one alone has.
    """
    void = truth == VOID
    own, other = boundaries(truth, void), boundaries(given, void)
    if not own.any() and not other.any():
        return None
    if not own.any() or not other.any():
        return 0.0
    near = np.ceil(NEAR * np.hypot(*truth.shape))
    precision = float((distance_transform_edt(~own)[other] <= near).mean())
    recall = float((distance_transform_edt(~other)[own] <= near).mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)


def interval(both: np.ndarray, either: np.ndarray) -> list[float] | None:
    """Return the 95% bootstrap interval of the mean IoU over images; None for a single one.

    Args:
        both, either: pixels of intersection and union, (images, classes).
    """
    if len(both) < 2:
        return None
    random = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, len(both), len(both))
        union = either[chosen].sum(axis=0)
        values.append((both[chosen].sum(axis=0)[union > 0] / union[union > 0]).mean())
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def overlap_metrics(
    confusion: np.ndarray, both: np.ndarray, either: np.ndarray, names: tuple[str, ...],
    met: list[float],
) -> dict[str, Any]:  # fmt: skip
    """Return all metrics of maps, ready for JSON.

    Args:
        confusion: of all pixels, see `confusion_of`.
        both, either: as for `interval`.
        names: of the classes.
        met: `boundary_f` of each image that has one.
    """
    iou, dice = shares_of(confusion)
    pixels = confusion.sum(axis=1)
    return {
        "examples": len(both),
        "mean_iou": None if np.isnan(iou).all() else float(np.nanmean(iou)),
        "mean_iou_interval": interval(both, either) if confusion.any() else None,
        "pixel_accuracy": float(np.diag(confusion).sum() / max(1, confusion.sum())),
        "boundary_f": float(np.mean(met)) if met else None,
        "per_class": {
            name: {"iou": _number(iou[i]), "dice": _number(dice[i]), "pixels": int(pixels[i])}
            for i, name in enumerate(names)
        },
        "confusion": confusion.tolist(),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
