"""How well boxes are found: overlap with the true ones, of one object an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkit.tasks.metrics import EPSILON, Z95, wilson_interval

RIGHT_FROM = 0.5
"""Overlap from which a box counts as right (ILSVRC's localisation task: Russakovsky et al. 2015,
section 4.2)."""

SMALLEST_LOG, LARGEST_LOG = -8.0, 0.0
"""Least and largest logarithm of a side, as a fraction of what the model sees."""


def corners(values: Any, xp: Any) -> Any:
    """Return x1, y1, x2, y2 (..., 4) of boxes cx, cy, log w, log h (..., 4), as fractions.

    Args:
        xp: `numpy` or `keras.ops`.
    """
    half = xp.exp(xp.clip(values[..., 2:], SMALLEST_LOG, LARGEST_LOG)) / 2
    return xp.concatenate([values[..., :2] - half, values[..., :2] + half], axis=-1)


def inside(values: Any, xp: Any) -> Any:
    """Return the same corners of boxes that are moved and cut to lie inside of 0 to 1.

    The centre is put inside first, so that something of the box is left.
    """
    centre = xp.clip(values[..., :2], 0.0, 1.0)
    whole = corners(xp.concatenate([centre, values[..., 2:]], axis=-1), xp)
    return xp.clip(whole, 0.0, 1.0)


def centred(boxes: np.ndarray) -> np.ndarray:
    """Return cx, cy, log w, log h (n, 4) of corners (n, 4): `corners` turned round."""
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = np.maximum(high - low, math.exp(SMALLEST_LOG))
    return np.concatenate([(low + high) / 2, np.log(sides)], axis=1).astype(np.float32)


def overlap(one: Any, other: Any, xp: Any) -> Any:
    """Return intersection over union (...) of pairs of boxes x1, y1, x2, y2 (..., 4); the forms may
    be such as extend to each other.

    Side by side: of pairs (n, m, k) arrays that also hold the two sides of each take three times as
    long, and twice the memory, where a loss needs them in each step.
    """
    wide = xp.minimum(one[..., 2], other[..., 2]) - xp.maximum(one[..., 0], other[..., 0])
    high = xp.minimum(one[..., 3], other[..., 3]) - xp.maximum(one[..., 1], other[..., 1])
    both = xp.maximum(wide, 0.0) * xp.maximum(high, 0.0)

    def area(box: Any) -> Any:
        return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])

    return both / xp.maximum(area(one) + area(other) - both, 1e-9)


def localisation_metrics(
    truth: np.ndarray, probabilities: np.ndarray, iou: np.ndarray, ciou: np.ndarray,
    names: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Return metrics of one box and its class an image.

    Args:
        truth: class indices (n,).
        probabilities: of the classes (n, classes).
        iou, ciou: of the boxes (n,), the former in the images' own pixels.

    Returns:
        `accuracy` of the class; `mean_iou`; `localisation_accuracy`, the share with the right class
        and an IoU of at least `RIGHT_FROM`; 95% intervals of the three (Wilson 1927; of the mean
        the normal one); `localisation_score`, the mean of the latter two; `loss`; and the three
        for each class, with its `support`.
    """
    right = probabilities.argmax(axis=1) == truth
    located = right & (iou >= RIGHT_FROM)
    own = np.clip(probabilities[np.arange(len(truth)), truth].astype(np.float64), EPSILON, 1)
    spread = Z95 * float(iou.std(ddof=1)) / math.sqrt(len(iou)) if len(iou) > 1 else 0.5
    mean = float(iou.mean())
    result = {
        "examples": len(truth),
        **_shares(right, iou, located),
        "interval95": wilson_interval(int(right.sum()), len(right)),
        "mean_iou_interval95": [max(0.0, mean - spread), min(1.0, mean + spread)],
        "localisation_interval95": wilson_interval(int(located.sum()), len(located)),
        "localisation_score": float((mean + located.mean()) / 2),
        "loss": float((1 - ciou - np.log(own)).mean()),
        "per_class": {},
    }
    for i, name in enumerate(names):
        here = truth == i
        shares = _shares(right[here], iou[here], located[here])
        result["per_class"][name] = {**shares, "support": int(here.sum())}
    return result


def _shares(right: np.ndarray, iou: np.ndarray, located: np.ndarray) -> dict[str, float | None]:
    values = {"accuracy": right, "mean_iou": iou, "localisation_accuracy": located}
    return {name: float(x.mean()) if len(x) else None for name, x in values.items()}


def localisation_headline(metrics: dict[str, Any]) -> str:
    """Return what a person wants to know first of boxes, in a line."""
    (low, high), share = metrics["localisation_interval95"], metrics["localisation_accuracy"]
    return (
        f"{share:.3f} of {metrics['examples']:,} localised (right class, IoU {RIGHT_FROM:g} or "
        f"more; 95% interval {low:.3f}-{high:.3f}), class accuracy {metrics['accuracy']:.3f}, "
        f"mean IoU {metrics['mean_iou']:.3f}"
    )
