"""LogME: how well linear models on fixed features could explain the targets, without fitting one.

You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning".
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

ITERATIONS = 300
"""Bound on the fixed-point iterations; a few suffice where there is noise."""

TOLERANCE = 1e-6
"""Relative change of alpha and beta at which the iteration ends."""

LIMIT = 1e12
"""Bound of alpha and beta: targets that the features say nothing of drive alpha to infinity,
targets that they explain exactly drive beta there."""


def log_maximum_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """Return the logarithm of the maximum evidence, per example; higher is better.

    The evidence of `y = features @ w + noise`, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), with w
    integrated out, maximised over alpha and beta; the mean over the columns of `targets`.

    Args:
        features: float (n, d).
        targets: float (n, k): classes one-hot, labels 0 and 1, or numbers.
    """
    x, y = features.astype(np.float64), targets.astype(np.float64)
    with threadpool_limits(1):  # as in the solver: other threads hold the cores
        variances, projected = _spectrum(x, y)
    outside = np.maximum(np.square(y).sum(axis=0) - projected.sum(axis=0), 0.0)
    columns = zip(projected.T, outside, strict=True)
    return float(np.mean([_evidence(*x.shape, variances, z2, rest) for z2, rest in columns]))


def _spectrum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared singular values (r,) of `x`, and squared projections (r, k) of `y` on it."""
    n, d = x.shape
    if n <= d:
        variances, left = np.linalg.eigh(x @ x.T)
        kept = variances > 1e-10 * variances[-1]
        return variances[kept], np.square(left[:, kept].T @ y)
    variances, right = np.linalg.eigh(x.T @ x)
    kept = variances > 1e-10 * variances[-1]
    variances = variances[kept]
    return variances, np.square(right[:, kept].T @ (x.T @ y)) / variances[:, None]


def _evidence(n: int, d: int, variances: np.ndarray, z2: np.ndarray, outside: float) -> float:
    """Return the log evidence per example of one column, by the paper's fixed point.

    Args:
        variances: squared singular values of the features.
        z2: squared projections of the targets on the left singular vectors.
        outside: squared length of what of the targets lies in none of them.
    """
    alpha = beta = 1.0
    for _ in range(ITERATIONS):
        before = alpha, beta
        gamma, length, error = _moments(alpha, beta, variances, z2, outside)
        alpha = min(gamma / max(length, 1 / LIMIT), LIMIT)
        beta = min(max(n - gamma, 1 / LIMIT) / max(error, 1 / LIMIT), LIMIT)
        if np.allclose((alpha, beta), before, rtol=TOLERANCE, atol=0):
            break
    _, length, error = _moments(alpha, beta, variances, z2, outside)
    log_determinant = np.log(alpha + beta * variances).sum() + (d - len(variances)) * np.log(alpha)
    total = n * np.log(beta / (2 * np.pi)) + d * np.log(alpha) - log_determinant
    return float((total - beta * error - alpha * length) / (2 * n))


def _moments(
    alpha: float, beta: float, variances: np.ndarray, z2: np.ndarray, outside: float
) -> tuple[float, float, float]:
    """Return effective parameters, and |m|^2 and |features @ m - y|^2 of the posterior mean m."""
    precision = alpha + beta * variances
    gamma = float((beta * variances / precision).sum())
    length = float((np.square(beta / precision) * variances * z2).sum())
    error = float((np.square(alpha / precision) * z2).sum()) + outside
    return gamma, length, error
