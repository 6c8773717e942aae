"""A linear head on fixed features, solved.

Classes: multinomial logistic regression, labels: one logistic regression each, both by L-BFGS;
numbers: ridge regression, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from tlkit.heads.task import Task
from tlkit.training.rotation import fit_rotation

STRENGTHS = tuple(np.logspace(1, -5, 19))
"""L2 strengths, strong to weak, each the start of the next. Kornblith et al. 2019 (appendix A.4)
search 45 between 1e-6 and 1e5 for a summed loss; these are for the mean loss on standardised
features, where every data set tried had its best inside."""

PATIENCE = 4
"""The path ends after this many strengths without a lower validation loss."""

ITERATIONS = 100
"""Bound on L-BFGS iterations for a strength; the warm start makes most end long before."""


@dataclass(frozen=True)
class Step:
    """One strength on the path."""

    l2: float
    loss: float
    metric: float
    val_loss: float
    val_metric: float


@dataclass(frozen=True)
class Solution:
    """A Dense layer's weights, kernel (features, classes) and bias (classes,), and the path."""

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    path: tuple[Step, ...]


def solve(
    x: np.ndarray,
    y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    task: Task,
    weights: np.ndarray | None = None,
    l2: float | None = None,
) -> Solution:
    """Solve a linear head for the L2 strength with the lowest validation loss.

    It minimises the mean loss + l2/2 * |kernel|^2 (the bias is free) on standardised features:
    else one strength could not suit all of them. The standardisation is folded into the returned
    weights, so that the delivered layer is a plain Dense.

    Args:
        x, val_x: features float32 (n, features), arrays or `Rows`.
        y, val_y: targets as `task` encodes them.
        task: says what kind of problem it is, and measures solutions.
        weights: on the loss of each example (n,) or of each of its labels (n, labels), mean 1; not
            for numbers. What is measured stays unweighted.
        l2: the strength to solve for, one of `STRENGTHS`, whatever the validation loss says.
    """
    # Threads gain nothing on matrices this small, and lose much where other threads (TensorFlow's)
    # hold the cores: with two of them, 15 s against 2 s on 3,000 x 1,280.
    with threadpool_limits(1):
        return _solve(x, y, val_x, val_y, task, weights, l2)


def _solve(
    x: np.ndarray,
    y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    task: Task,
    importance: np.ndarray | None,
    asked: float | None,
) -> Solution:
    rotation = fit_rotation(x)
    x, val_x, variances = rotation.turn(x), rotation.turn(val_x), rotation.variances
    importance = np.float32(1) if importance is None else importance.reshape(len(y), -1)
    targets = task.scaled(y)
    weights = np.zeros((len(variances) + 1, targets.shape[1]), np.float32)
    path: list[Step] = []
    best = weights
    for l2 in STRENGTHS:
        if task.solver == "ridge":
            weights = _ridge(x, targets, variances, l2)
        else:
            weights = _minimise(x, targets, variances, l2, weights, task.solver, importance)
        scores = (
            task.measure(features @ weights[:-1] + weights[-1], truth)
            for features, truth in ((x, y), (val_x, val_y))
        )
        path.append(Step(float(l2), *next(scores), *next(scores)))
        lowest = min(range(len(path)), key=lambda i: path[i].val_loss)
        if asked is not None:
            lowest, best = len(path) - 1, weights
            if l2 <= asked:
                break
        elif lowest == len(path) - 1:
            best = weights
        elif len(path) - lowest > PATIENCE:
            break
    kernel = rotation.basis @ best[:-1]
    return Solution(kernel, best[-1] - rotation.mean @ kernel, path[lowest].l2, tuple(path))


def _ridge(x: np.ndarray, targets: np.ndarray, variances: np.ndarray, l2: float) -> np.ndarray:
    """Return the weights (rank + 1, numbers) of ridge regression, mean squared error halved."""
    bias = targets.mean(axis=0)
    kernel = (x.T @ (targets - bias) / len(x)) / (variances + l2)[:, None]
    return np.vstack([kernel, bias]).astype(np.float32)


def _minimise(
    x: np.ndarray,
    targets: np.ndarray,
    variances: np.ndarray,
    l2: float,
    start: np.ndarray,
    kind: str,
    importance: np.ndarray,
) -> np.ndarray:
    """Minimise the objective for one strength, from `start` (rank + 1, outputs), bias last.

    `importance` (n, 1) or (n, outputs), or a single 1, weighs the loss.
    """
    n, outputs = targets.shape
    # Curvature along each direction where all answers are equally probable: the unknowns are
    # scaled by its root, so that L-BFGS sees a problem that is round to begin with.
    curvature = (1 - 1 / outputs) / outputs if kind == "softmax" else 1 / 4
    scales = 1 / np.sqrt(np.append(curvature * variances + l2, curvature))
    scales = scales.astype(np.float32)[:, None]
    link = _softmax if kind == "softmax" else _sigmoid

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape).astype(np.float32) * scales
        kernel = weights[:-1]
        p, loss = link(x @ kernel + weights[-1], targets, importance)
        residual = importance * (p - targets) / n
        gradient = np.vstack([x.T @ residual + l2 * kernel, residual.sum(axis=0)]) * scales
        value = loss / n + l2 / 2 * float(np.square(kernel).sum(dtype=np.float64))
        return value, gradient.ravel().astype(np.float64)

    found = minimize(
        objective,
        (start / scales).ravel().astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 1e-6, "gtol": 1e-5},
    )
    return found.x.reshape(start.shape).astype(np.float32) * scales


def _softmax(
    raw: np.ndarray, targets: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return probabilities and the summed cross-entropy."""
    shifted = raw - raw.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.exp(log_p), -float((importance * targets * log_p).sum(dtype=np.float64))


def _sigmoid(
    raw: np.ndarray, targets: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return probabilities and the summed binary cross-entropies."""
    loss = importance * (np.logaddexp(0, raw) - targets * raw)
    return expit(raw), float(loss.sum(dtype=np.float64))
