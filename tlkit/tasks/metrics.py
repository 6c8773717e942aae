"""Metrics of each task from targets and a model's outputs, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

TOP_K = 5
Z95 = 1.959964
"""Two-sided 95% point of the normal distribution."""

_SCORES = ("precision", "recall", "f1")

EPSILON = 1e-7
"""Floor of a probability in a logarithm: Keras's own (keras.config.epsilon): losses agree."""


def classification_headline(metrics: dict[str, Any]) -> str:
    """Return what a person wants to know first of classes, in a line."""
    low, high = metrics["interval95"]
    return (
        f"{metrics['accuracy']:.3f} of {metrics['examples']:,} right "
        f"(95% interval {low:.3f}-{high:.3f}), macro F1 {metrics['macro_f1']:.3f}"
    )


def class_likelihood(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-likelihood of class indices (n,)."""
    own = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(own, EPSILON, 1.0)).mean())


def label_likelihood(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-likelihood of labels, there or not, bool (n, labels)."""
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    return float(-(truth * np.log(p) + ~truth * np.log(1 - p)).mean())


def multilabel_headline(metrics: dict[str, Any]) -> str:
    """Return the same of labels."""
    names = ("macro_f1", "micro_f1", "mean_average_precision")
    macro, micro, ranked = ("-" if (x := metrics[k]) is None else f"{x:.3f}" for k in names)
    return (
        f"macro F1 {macro}, micro F1 {micro}, mean average precision {ranked}, "
        f"on {metrics['examples']:,}"
    )


def regression_headline(metrics: dict[str, Any]) -> str:
    """Return the same of numbers."""
    return (
        f"mean absolute error {metrics['mae']:.4g}, RMSE {metrics['rmse']:.4g}, "
        f"R2 {metrics['r2']:.3f}, on {metrics['examples']:,}"
    )


def multilabel_metrics(
    targets: np.ndarray,
    probabilities: np.ndarray,
    given: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Return metrics of multi-label classification; `accuracy` counts images wholly right.

    F1 is averaged over the labels that occur, as in `_by_class`; where none does it is None.

    Args:
        targets: 0 or 1 (n, labels).
        probabilities: (n, labels).
        given: bool (n, labels), those from their `thresholds` on.
        names: of the labels.
    """
    truth = targets > 0
    # One column would be taken for a binary problem, whose second class is the label's absence.
    pair = (truth, given) if truth.shape[1] > 1 else (truth[:, 0], given[:, 0])
    which = {"labels": None if truth.shape[1] > 1 else [True], "zero_division": 0}
    scores = precision_recall_fscore_support(*pair, **which)
    macro, rows = _by_class(names, scores, given.sum(axis=0))
    micro = precision_recall_fscore_support(*pair, average="micro", **which)
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    # A label that no image here has, or every image, has no ranking to measure.
    ranked = [
        float(average_precision_score(t, q)) if 0 < t.sum() < len(t) else None
        for t, q in zip(truth.T, p.T, strict=True)
    ]
    known = [value for value in ranked if value is not None]
    return {
        "examples": len(truth),
        "accuracy": float((truth == given).all(axis=1).mean()),
        "loss": label_likelihood(truth, probabilities),
        "macro_f1": macro,
        "micro_f1": None if macro is None else float(micro[2]),
        "mean_average_precision": float(np.mean(known)) if known else None,
        "per_class": {
            label: {**row, "average_precision": average, "threshold": float(threshold)}
            for (label, row), average, threshold in zip(
                rows.items(), ranked, thresholds, strict=True
            )
        },
    }


def _by_class(
    names: Sequence[str], scores: tuple[np.ndarray, ...], given: np.ndarray
) -> tuple[float | None, dict[str, dict[str, Any]]]:
    """Return macro F1 and a row for each class or label.

    The mean is over those that occur in truth or prediction (scikit-learn's default): one that does
    not was neither found nor missed, so that its scores are None. None of them: no mean either.

    Args:
        scores: precision, recall, F1 and support of each, from scikit-learn.
        given: how often each was predicted.
    """
    rows = {}
    for i, name in enumerate(names):
        occurs = scores[3][i] > 0 or given[i] > 0
        values = {k: float(x[i]) for k, x in zip(_SCORES, scores[:3], strict=True)}
        rows[name] = {k: x if occurs else None for k, x in values.items()}
        rows[name]["support"] = int(scores[3][i])
    known = [row["f1"] for row in rows.values() if row["f1"] is not None]
    return float(np.mean(known)) if known else None, rows


def regression_metrics(
    targets: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Return errors in the targets' own units, and R2, over all numbers and for each.

    Args:
        targets, values: (n, numbers).
    """
    error = (values - targets).astype(np.float64)
    square = np.square(error)

    def r2(i: int) -> float:
        # One example, or equal ones, have no spread to explain.
        spread = np.ptp(targets[:, i]) > 0
        return float(r2_score(targets[:, i], values[:, i])) if spread else 0.0

    each = [r2(i) for i in range(len(names))]
    return {
        "examples": len(targets),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(square.mean())),
        "r2": float(np.mean(each)),
        "loss": float(square.mean()),
        "per_target": {
            name: {
                "mae": float(np.abs(error[:, i]).mean()),
                "rmse": float(np.sqrt(square[:, i].mean())),
                "r2": each[i],
            }
            for i, name in enumerate(names)
        },
    }


def classification_metrics(
    truth: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    predicted: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return metrics of single-label classification; macro F1 over the classes that occur.

    Of two classes there are `roc_auc`, the same for both, and the `average_precision` of each.

    Args:
        truth: class indices (n,).
        probabilities: (n, classes), rows add up to 1.
        predicted: class indices (n,); None: the most probable.
    """
    predicted = probabilities.argmax(axis=1) if predicted is None else predicted
    every = list(range(len(labels)))
    scores = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    macro, rows = _by_class(labels, scores, np.bincount(predicted, minlength=len(labels)))
    right = int((predicted == truth).sum())
    return {
        "examples": len(truth),
        "accuracy": right / len(truth),
        "interval95": wilson_interval(right, len(truth)),
        "top_k": {
            str(k): top_k(truth, probabilities, k)
            for k in range(1, TOP_K + 1)
            if k < len(labels) or k == 1
        },
        "loss": class_likelihood(truth, probabilities),
        "macro_f1": macro,
        **(_ranking(truth, probabilities, labels) if len(labels) == 2 else {}),
        "per_class": rows,
        "confusion": confusion_matrix(truth, predicted, labels=every).tolist(),
    }


def _ranking(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Return how well probabilities rank two classes; None where one has no image.

    The area under the ROC curve is the share of pairs of images, one of each class, that are in the
    right order, half of those that are equal (Hanley & McNeil 1982).
    """
    if len(np.unique(truth)) < 2:
        return {"roc_auc": None, "average_precision": dict.fromkeys(labels)}
    scores = probabilities.astype(np.float64).T
    precision = (average_precision_score(truth == i, p) for i, p in enumerate(scores))
    return {
        "roc_auc": float(roc_auc_score(truth, scores[1])),
        "average_precision": dict(zip(labels, map(float, precision), strict=True)),
    }


def top_k(truth: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Return the share of examples whose true class is among the `k` most probable."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == truth[:, None]).any(axis=1).mean())


def wilson_interval(right: int, total: int) -> list[float]:
    """Return the 95% interval of an accuracy (Wilson 1927), which stays inside 0 to 1."""
    share, z2 = right / total, Z95**2
    centre = share + z2 / (2 * total)
    spread = Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return [(centre - spread) / (1 + z2 / total), (centre + spread) / (1 + z2 / total)]


def macro_f1(truth: np.ndarray, given: np.ndarray) -> float:
    """Return the mean of F1 over the labels that are there or given; 0 where none is."""
    pairs = [(t > 0, g) for t, g in zip(truth.T, given.T, strict=True)]
    found = [f1_of(t, g) for t, g in pairs if t.any() or g.any()]
    return float(np.mean(found)) if found else 0.0


def f1_of(truth: np.ndarray, given: np.ndarray) -> float:
    both = truth.sum() + given.sum()
    return float(2 * (truth & given).sum() / both) if both else 0.0
