"""A linear head on fixed features, solved.

Classes: multinomial logistic regression, labels: one logistic regression each, both by L-BFGS;
numbers: ridge regression, in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from scipy.special import expit, log_softmax
from threadpoolctl import threadpool_limits

from tlkit.solver.principal_axes import chunks, fit_rotation
from tlkit.tasks.task import Task

STRENGTHS = tuple(np.logspace(1, -5, 19))
"""L2 strengths, strong to weak, each the start of the next. Kornblith et al. 2019 (appendix A.4)
search 45 between 1e-6 and 1e5 for a summed loss; these are for the mean loss on standardised
features, where every data set tried had its best inside."""

PATIENCE = 4
"""The path ends after this many strengths without a lower validation loss."""

TOLERANCE = 1e-3
"""A strength is solved once its objective is within this share of the lowest there is."""

GAIN = 1e-8
"""And once a step gains less than this share: mostly it is then a thousand times nearer."""

STARTS = 3
"""Attempts at a strength: each takes the curvature where the last one came to rest, if that was
short of the tolerance because the curvature at its start was another."""

NOTHING = 1e-6
"""An objective below this is as good as none: with one answer for all it has no lowest value."""

ITERATIONS = 500
"""Bound on L-BFGS iterations for a strength. On pooled features of MobileNetV2 (12 flowers, 612
images, seeds 0, 1, 2) a strength takes 17 to 21 passes over the features, none more than 61."""

FLATTEST = 1e-8
"""Floor of a curvature: where every answer is sure, the bias has none."""


@dataclass(frozen=True)
class Step:
    """One strength on the path.

    Attributes:
        gap: bound on how far its objective is above the lowest there is, as a share of it; at most
            `TOLERANCE` where it is solved.
    """

    l2: float
    loss: float
    metric: float
    val_loss: float
    val_metric: float
    gap: float = 0.0


@dataclass(frozen=True)
class Solution:
    """A Dense layer's weights, kernel (features, classes) and bias (classes,), and the path."""

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    path: tuple[Step, ...]

    @property
    def unsolved(self) -> list[float]:
        """The strengths on the path whose objective did not come within `TOLERANCE`."""
        return [step.l2 for step in self.path if not step.gap <= TOLERANCE]


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
    weights = before = np.zeros((len(variances) + 1, targets.shape[1]), np.float32)
    path: list[Step] = []
    best = weights
    for l2 in STRENGTHS:
        if task.solver == "ridge":
            weights, gap = _ridge(x, targets, variances, l2), 0.0
        else:
            # As far again as from the last strength to this one: the path is almost straight.
            start, before = 2 * weights - before, weights
            for _ in range(STARTS):
                start, gap = _minimise(x, targets, variances, l2, start, task.solver, importance)
                if gap <= TOLERANCE:
                    break
            weights = start
        scores = (
            task.measure(features @ weights[:-1] + weights[-1], truth)
            for features, truth in ((x, y), (val_x, val_y))
        )
        path.append(Step(float(l2), *next(scores), *next(scores), gap))
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
) -> tuple[np.ndarray, float]:
    """Minimise the objective for one strength, from `start` (rank + 1, outputs), bias last.

    It ends by a bound on what is left to gain, not by how little a step gained alone: with a weak
    L2 the objective is so small that any step gains little. The objective is strongly convex, with
    the L2 as its modulus, hence at most |gradient|^2 / (2 l2) above its minimum (Boyd &
    Vandenberghe 2004, 9.1.2); the bias, which has no L2, is counted with its curvature.

    Args:
        importance: (n, 1) or (n, outputs), or a single 1; weighs the loss.

    Returns:
        The weights, and the bound as a share of the objective.
    """
    n = len(targets)
    # Curvature of each output's loss at the start, along each direction: the unknowns are scaled by
    # its root, so that L-BFGS sees a problem that is round to begin with. Where answers are sure,
    # which a weak L2 makes them, it is a thousandth of what it is where all are equally probable.
    _, _, curvature = _slopes(kind, x @ start[:-1] + start[-1], targets, importance)
    curvature = np.maximum(curvature, FLATTEST)
    scales = 1 / np.sqrt(np.vstack([np.outer(variances, curvature) + l2, curvature]))
    scales = scales.astype(np.float32)
    unit, last, gap = 1.0, np.inf, np.inf

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal gap
        weights = flat.reshape(start.shape).astype(np.float32) * scales
        kernel = weights[:-1]
        slopes, loss, _ = _slopes(kind, x @ kernel + weights[-1], targets, importance)
        slopes /= n
        gradient = np.vstack([x.T @ slopes + l2 * kernel, slopes.sum(axis=0)])
        value = loss / n + l2 / 2 * float(np.square(kernel).sum(dtype=np.float64))
        square = np.square(gradient, dtype=np.float64)
        gap = (square[:-1].sum() / l2 + (square[-1] / curvature).sum()) / 2 / max(value, NOTHING)
        return value / unit, (gradient * scales).ravel().astype(np.float64) / unit

    def near_enough(intermediate_result: OptimizeResult) -> None:
        nonlocal last
        gained, last = last - intermediate_result.fun, intermediate_result.fun
        if gap <= TOLERANCE and gained < GAIN:
            raise StopIteration

    begin = (start / scales).ravel().astype(np.float64)
    unit, _ = objective(begin)  # the objective is about 1, whatever the L2
    found = minimize(
        objective,
        begin,
        jac=True,
        method="L-BFGS-B",
        callback=near_enough,
        options={"maxiter": ITERATIONS, "ftol": 0, "gtol": 0},
    )
    objective(found.x)
    return found.x.reshape(start.shape).astype(np.float32) * scales, float(gap)


def _slopes(
    kind: str, raw: np.ndarray, targets: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the loss's slope along each answer (n, outputs), its sum, and the mean curvature.

    In double precision, some rows at a time: with a weak L2 the answers are so sure that in single
    precision one less a probability would be noise.

    Args:
        raw: answers before their activation float32 (n, outputs).
    """
    weights = np.broadcast_to(importance, raw.shape)
    slopes, loss, curvature = np.empty_like(raw), 0.0, np.zeros(raw.shape[1])
    for rows in chunks(len(raw)):
        p, losses = (_softmax if kind == "softmax" else _sigmoid)(raw[rows], targets[rows])
        slopes[rows] = weights[rows] * (p - targets[rows])
        loss += float((weights[rows] * losses).sum())
        curvature += (weights[rows] * p * (1 - p)).sum(axis=0)
    return slopes, loss, curvature / len(raw)


def _softmax(raw: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and the cross-entropy's terms."""
    log_p = log_softmax(raw.astype(np.float64), axis=1)
    return np.exp(log_p), -targets * log_p


def _sigmoid(raw: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and binary cross-entropies."""
    raw = raw.astype(np.float64)
    return expit(raw), np.logaddexp(0, raw) - targets * raw
