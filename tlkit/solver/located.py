"""A box read off the whole feature map, and its class off the pooled one: both solved.

The box is ridge regression on all numbers of the map: tens of thousands for some hundred images, so
that its dual is solved, of as many unknowns as there are images (Saunders et al. 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.solver.l2_selection import Selection, solve_head
from tlkit.solver.solve import Step
from tlkit.tasks.localisation import SURE, Localisation

STRENGTHS = tuple(np.logspace(3, -4, 15))
"""L2 strengths of the box, for features that are standardised and whose kernel is divided by their
number: its diagonal is 1 on average. On the one set tried (three classes, 504 images, MobileNetV2)
those from 10 downwards differ by 0.02 of the score on validation, those below 1 by 0.003."""

MOST_ROWS = 4000
"""Images, views counted, of which the box is solved: the kernel has the square of it, and its
eigenvectors take the third power."""

CHUNK_BYTES = 2**26
"""Features that are worked on at a time."""

Pool = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class LocatedHead:
    """Weights of both layers, and how they were found.

    Attributes:
        named: kernel and bias of the layer that names the class.
        box: kernel and bias of the layer that answers with the box, in standard deviations.
        path: a step for each strength of the box.
        l2: the strength chosen.
        reason: how, for the person who watches.
    """

    named: tuple[np.ndarray, np.ndarray]
    box: tuple[np.ndarray, np.ndarray]
    path: tuple[Step, ...]
    l2: float
    reason: str


def solve_located(
    x: Any,
    y: np.ndarray,
    val_x: Any,
    val_y: np.ndarray,
    task: Localisation,
    pool: Pool,
    how: Selection,
    groups: np.ndarray,
) -> LocatedHead:
    """Solve the class by `solve_head` and the box by ridge regression.

    The strength of the box is that of the least squared error on images left out, with all their
    views and with the rest of their group, which has a closed form (Hastie, Tibshirani & Friedman
    2009, equation 7.64, for blocks of rows).

    Args:
        x, val_x: feature maps (n, height, width, channels), arrays or `Rows`; `x` of `how.views`
            views of all images, view after view.
        y, val_y: rows of `Boxes`, for each view.
        pool: from maps to the pooled features that the class is read off.
        how: of the class.
        groups: number of the group of each image (images,).
    """
    images, views = len(y) // how.views, how.views
    named, reason = _solve_class(x, y[:images, 0], val_x, val_y[:, 0], task, pool, how)
    shown = np.flatnonzero(y[:, 1] >= 0)
    rows = shown if len(shown) <= MOST_ROWS else shown[_spread(len(shown), MOST_ROWS)]
    mean, scale = _moments(x, rows)
    kernel = _products(x, rows, x, rows, mean, scale)
    targets = task.scaled(y[rows])
    centre = targets.mean(axis=0)
    s, q = np.linalg.eigh(kernel.astype(np.float64))
    s = np.maximum(s, 0)
    turned = q.T @ (targets - centre)
    members = _members(np.tile(groups, views)[rows])
    errors = [_left_out(q, s, turned, targets - centre, l2, members) for l2 in STRENGTHS]
    best = int(np.argmin(errors))
    crossed = _products(val_x, np.arange(len(val_y)), x, rows, mean, scale)
    p, val_p = (_probabilities(part, pool, named) for part in (_Chosen(x, rows), val_x))
    path = []
    for l2 in STRENGTHS:
        alpha = q @ (turned / (s + l2)[:, None])
        fitted = [task.unscaled(k @ alpha + centre) for k in (kernel, crossed)]
        own, other = (np.concatenate(pair, axis=1) for pair in zip((p, val_p), fitted, strict=True))
        path.append(Step(float(l2), *task.assess(y[rows], own), *task.assess(val_y, other)))
    alpha = q @ (turned / (s + STRENGTHS[best])[:, None])
    weights = _back(x, rows, alpha, mean, scale)
    bias = centre - mean.reshape(-1) @ weights
    left = f" on {len(rows):,} of {len(shown):,} views" if len(rows) < len(shown) else ""
    text = f"class: {reason}; box: L2 {STRENGTHS[best]:.2g} by leaving images out, one by one{left}"
    box = weights.astype(np.float32), bias.astype(np.float32)
    return LocatedHead(named, box, tuple(path), path[best].l2, text)


def _solve_class(
    x: Any, y: np.ndarray, val_x: Any, val_y: np.ndarray, task: Localisation, pool: Pool,
    how: Selection,
) -> tuple[tuple[np.ndarray, np.ndarray], str]:  # fmt: skip
    features, val_features = _pooled(x, pool), _pooled(val_x, pool)
    if task.classes < 2:
        width = features.shape[1]
        return (np.zeros((width, 1), np.float32), np.full(1, SURE, np.float32)), "one alone"
    y, val_y = y.astype(np.int32), val_y.astype(np.int32)
    chosen = solve_head(features, y, val_features, val_y, task.classifier, how)
    return (chosen.delivered.kernel, chosen.delivered.bias), chosen.reason


class _Chosen:
    """Some rows of features, as if they were all."""

    def __init__(self, x: Any, rows: np.ndarray):
        self._x, self._rows = x, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        return self._x[self._rows[chosen]]


def _spread(count: int, most: int) -> np.ndarray:
    """Return `most` of `count` indices, as evenly as they can lie: of all views and images."""
    return np.arange(most) * count // most


def _chunks(x: Any, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield features float32 (n, features) of some rows, and where they are among them."""
    size = max(1, CHUNK_BYTES // (4 * x[rows[:1]].size))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        taken = np.asarray(x[rows[part]], np.float32)
        yield part, taken.reshape(len(taken), -1)


def _moments(x: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each feature; infinite for those that never change."""
    total = square = 0.0
    for _, part in _chunks(x, rows):
        total = total + part.sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    for _, part in _chunks(x, rows):
        square = square + np.square(part - mean).sum(axis=0)
    scale = np.sqrt(square / len(rows))
    return mean.astype(np.float32), np.where(scale > 1e-6, scale, np.inf).astype(np.float32)


def _products(
    x: Any, rows: np.ndarray, other: Any, others: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return the mean products of standardised features, float32 (rows, others)."""
    made = np.empty((len(rows), len(others)), np.float32)
    same, features = x is other and rows is others, len(mean)
    for here, one in _chunks(x, rows):
        one = (one - mean) / scale
        for there, two in _chunks(other, others):
            if same and there.start > here.start:
                break
            two = one if same and there == here else (two - mean) / scale
            made[here, there] = one @ two.T / features
            if same:
                made[there, here] = made[here, there].T
    return made


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _left_out(
    q: np.ndarray, s: np.ndarray, turned: np.ndarray, targets: np.ndarray, l2: float,
    members: list[np.ndarray],
) -> float:  # fmt: skip
    """Return the mean squared error on groups left out.

    Args:
        q, s: eigenvectors and eigenvalues of the kernel.
        turned: `q.T @ targets`.
        targets: with mean 0.
    """
    shares = s / (s + l2)
    residual = targets - q @ (shares[:, None] * turned)
    total = 0.0
    for own in members:
        mine = q[own]
        hat = (mine * shares) @ mine.T + 1 / len(q)
        # Where one group is all there is, nothing is left to tell it by.
        rest = np.eye(len(own)) * (1 + 1e-9) - hat
        total += float(np.square(np.linalg.solve(rest, residual[own])).sum())
    return total / targets.size


def _back(
    x: Any, rows: np.ndarray, alpha: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Return the weights (features, 4) on features as they are of a dual solution (rows, 4)."""
    weights = np.zeros((len(mean), alpha.shape[1]))
    for part, features in _chunks(x, rows):
        weights += ((features - mean) / scale).T @ alpha[part].astype(np.float32)
    return weights / len(mean) / scale[:, None]


def _pooled(x: Any, pool: Pool) -> np.ndarray:
    size = max(1, CHUNK_BYTES // (4 * x[:1].size))
    return np.concatenate([pool(x[i : i + size]) for i in range(0, len(x), size)])


def _probabilities(x: Any, pool: Pool, named: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    raw = _pooled(x, pool) @ named[0] + named[1]
    raw = np.exp(raw - raw.max(axis=1, keepdims=True))
    return raw / raw.sum(axis=1, keepdims=True)
