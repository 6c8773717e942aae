"""Metrics of single-label classification from true classes and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

TOP_K = 5
Z95 = 1.959964
"""Two-sided 95% point of the normal distribution."""


def classification_metrics(
    truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> dict[str, Any]:
    """Return all metrics of one part of the data, ready for JSON.

    Args:
        truth: class indices (n,).
        probabilities: (n, classes), rows add up to 1.
    """
    predicted = probabilities.argmax(axis=1)
    every = range(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=list(every), zero_division=0
    )
    right = int((predicted == truth).sum())
    own = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return {
        "examples": len(truth),
        "accuracy": right / len(truth),
        "interval95": wilson_interval(right, len(truth)),
        "top_k": {
            str(k): top_k(truth, probabilities, k)
            for k in range(1, TOP_K + 1)
            if k < len(labels) or k == 1
        },
        # The floor is Keras's own (keras.config.epsilon), so that both losses agree.
        "loss": float(-np.log(np.clip(own, 1e-7, 1.0)).mean()),
        "macro_f1": float(f1.mean()),
        "per_class": {
            labels[i]: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i in every
        },
        "confusion": confusion_matrix(truth, predicted, labels=list(every)).tolist(),
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
