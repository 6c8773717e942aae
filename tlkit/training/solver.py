"""A linear head on fixed features, solved: multinomial logistic regression by L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

STRENGTHS = tuple(np.logspace(1, -5, 25))
"""L2 strengths, strong to weak, each the start of the next. Kornblith et al. 2019 (appendix A.4)
search 45 between 1e-6 and 1e5 for a summed loss; these are for the mean loss on standardised
features, where every data set tried had its best inside."""

PATIENCE = 4
"""The path ends after this many strengths without a lower validation loss."""

ITERATIONS = 60
"""Bound on L-BFGS iterations for a strength; the warm start makes most end long before."""


@dataclass(frozen=True)
class Step:
    """One strength on the path."""

    l2: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Solution:
    """A Dense layer's weights, kernel (features, classes) and bias (classes,), and the path."""

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    path: tuple[Step, ...]


def solve(
    x: np.ndarray, y: np.ndarray, val_x: np.ndarray, val_y: np.ndarray, classes: int
) -> Solution:
    """Solve a softmax classifier for the L2 strength with the lowest validation loss.

    Args:
        x, val_x: features float32 (n, features).
        y, val_y: class indices (n,).

    Features are standardised for solving (else one strength cannot suit all of them), and the
    standardisation is folded into the returned weights: the delivered layer is a plain Dense.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # A feature that never changes carries nothing; dividing by its zero would make it infinite.
    scale = np.where(scale > 1e-6, scale, np.inf).astype(np.float32)
    x, val_x = (x - mean) / scale, (val_x - mean) / scale
    targets = np.eye(classes, dtype=np.float32)[y]
    weights = np.zeros((x.shape[1] + 1, classes), np.float32)
    path, best, best_weights = [], np.inf, weights
    since = 0
    for l2 in STRENGTHS:
        weights = _minimise(x, targets, l2, weights)
        loss, accuracy = _score(x, y, weights)
        val_loss, val_accuracy = _score(val_x, val_y, weights)
        path.append(Step(float(l2), loss, accuracy, val_loss, val_accuracy))
        since += 1
        if val_loss < best:
            best, best_weights, since = val_loss, weights, 0
        if since >= PATIENCE:
            break
    chosen = min(path, key=lambda step: step.val_loss)
    kernel = best_weights[:-1] / scale[:, None]
    return Solution(kernel, best_weights[-1] - mean @ kernel, chosen.l2, tuple(path))


def _minimise(x: np.ndarray, targets: np.ndarray, l2: float, start: np.ndarray) -> np.ndarray:
    """Minimise mean cross-entropy + l2/2 * |kernel|^2 (the bias is free), from `start`."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape).astype(np.float32)
        kernel = weights[:-1]
        logits = x @ kernel + weights[-1]
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        residual = (np.exp(log_p) - targets) / len(x)
        gradient = np.vstack([x.T @ residual + l2 * kernel, residual.sum(axis=0)])
        value = -(targets * log_p).sum(dtype=np.float64) / len(x)
        value += l2 / 2 * np.square(kernel, dtype=np.float64).sum()
        return value, gradient.ravel().astype(np.float64)

    found = minimize(
        objective,
        start.ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 1e-7, "gtol": 1e-5},
    )
    return found.x.reshape(start.shape).astype(np.float32)


def _score(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy."""
    logits = x @ weights[:-1] + weights[-1]
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    return float(-log_p[np.arange(len(y)), y].mean()), float((logits.argmax(axis=1) == y).mean())
