"""The two linear layers of a detector by regions, solved on vectors of windows.

Vectors have thousands of numbers and there are tens of thousands of them: too many for principal
axes (`solver.solve`), so both go by the products of the numbers, which take one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

ITERATIONS, GAIN = 60, 1e-5
"""Bound on L-BFGS iterations of a strength, and the relative gain of a step at which it ends."""

CURVATURE = 0.15
"""Of the softmax, as it is thought to be before it is known: p (1 - p), between 0 and 1/4."""


ROWS = 1024
"""Vectors that are worked on at a time."""


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each number of a vector; what never changes counts as nothing."""

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Standardise vectors float32 (n, numbers), in place, and return them."""
        x -= self.mean
        x /= self.deviation
        return x

    def folded(self, weights: np.ndarray) -> np.ndarray:
        """Return weights (numbers + 1, outputs), bias last, for vectors as they are."""
        kernel = weights[:-1] / self.deviation[:, None]
        bias = weights[-1] - self.mean.astype(np.float64) @ kernel
        return np.vstack([kernel, bias]).astype(np.float32)


def scale_of(x: np.ndarray) -> Scale:
    """Return mean and deviation of vectors float32 (n, numbers)."""
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    square = np.zeros(x.shape[1])
    for start in range(0, len(x), ROWS):
        square += np.square(x[start : start + ROWS] - mean).sum(axis=0)
    deviation = np.sqrt(square / len(x))
    return Scale(mean, np.where(deviation > 1e-4, deviation, np.inf).astype(np.float32))


class Softmax:
    """Multinomial logistic regression with an L2 penalty: mean loss + l2/2 * |kernel|^2.

    The unknowns are turned and scaled by a Cholesky factor of the vectors' products, so that L-BFGS
    sees a problem that is round to begin with.

    Args:
        x: standardised vectors float32 (n, numbers), of which the products are taken.
        outputs: classes, background among them.
    """

    def __init__(self, x: np.ndarray, outputs: int):
        self._products, self._outputs = (x.T @ x) / np.float32(len(x)), outputs

    def solve(self, x: np.ndarray, y: np.ndarray, l2: float, start: np.ndarray | None = None):
        """Return weights float32 (numbers + 1, outputs), bias last.

        Args:
            x, y: vectors, and number of the class of each (n,).
            start: weights to begin with.
        """
        metric = CURVATURE * self._products
        metric[np.diag_indices_from(metric)] += l2
        factor = np.linalg.cholesky(metric)
        hot = np.eye(self._outputs, dtype=np.float32)[y]

        def turned(rows: np.ndarray, back: bool) -> np.ndarray:
            inner = solve_triangular(
                factor, rows[:-1], lower=True, trans=int(back), check_finite=False
            )
            return np.vstack([inner, rows[-1:]])

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = turned(flat.reshape(-1, self._outputs).astype(np.float32), True)
            shares, loss = _softmax(x @ weights[:-1] + weights[-1], y)
            slopes = (shares - hot) / np.float32(len(x))
            rows = np.vstack([x.T @ slopes + l2 * weights[:-1], slopes.sum(axis=0)])
            value = loss + l2 / 2 * float(np.square(weights[:-1], dtype=np.float64).sum())
            return value, turned(rows, False).ravel().astype(np.float64)

        if start is None:
            start = np.zeros((x.shape[1] + 1, self._outputs), np.float32)
        begin = np.vstack([factor.T @ start[:-1], start[-1:]]).ravel().astype(np.float64)
        options = {"maxiter": ITERATIONS, "ftol": GAIN, "gtol": 0.0}
        found = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options)
        return turned(found.x.reshape(-1, self._outputs).astype(np.float32), True)


def loss_of(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean cross-entropy of weights (numbers + 1, outputs)."""
    return _softmax(x @ weights[:-1] + weights[-1], y)[1]


def _softmax(raw: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Return probabilities, and the mean cross-entropy."""
    raw = raw - raw.max(axis=1, keepdims=True)
    shares = np.exp(raw)
    sums = shares.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0]) - raw[np.arange(len(y)), y]
    return shares / sums, float(losses.mean(dtype=np.float64))


def ridge(x: np.ndarray, targets: np.ndarray, strengths: Sequence[float]) -> list[np.ndarray]:
    """Return weights float32 (numbers + 1, outputs), bias last, for each L2 strength.

    Squared errors are summed, as in Girshick et al. 2014, appendix C, equation 5. Where there are
    fewer vectors than numbers the dual is solved (Saunders et al. 1998).

    Args:
        x: (n, numbers).
        targets: (n, outputs).
    """
    mean, centre = x.mean(axis=0), targets.mean(axis=0)
    x, aims = x - mean, (targets - centre).astype(np.float32)
    dual = len(x) < x.shape[1]
    products, right = (x @ x.T, aims) if dual else (x.T @ x, x.T @ aims)
    found = []
    for l2 in strengths:
        kept = products.astype(np.float64)
        kept[np.diag_indices_from(kept)] += l2
        solved = cho_solve(cho_factor(kept, lower=True, check_finite=False), right)
        kernel = x.T @ solved if dual else solved
        found.append(np.vstack([kernel, centre - mean @ kernel]).astype(np.float32))
    return found
