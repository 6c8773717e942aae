"""A box read off the whole feature map, and its class off the pooled one: both solved.

The box is ridge regression on all numbers of the map: tens of thousands for some hundred images, so
that its dual is solved, of as many unknowns as there are images (Saunders et al. 1998). Each class
has weights of its own for the box, as in R-CNN (Girshick et al. 2014, section 3.5), but such that
are drawn to what all classes share (regularised multi-task learning: Evgeniou & Pontil 2004), so
that a class with few images takes what the others have taught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, lapack
from threadpoolctl import threadpool_limits

from tlkit.features.rows import Rows
from tlkit.solver.l2_selection import Selection, solve_head
from tlkit.solver.solve import Step
from tlkit.tasks.localisation import SURE, VIEWS_SOLVED, Localisation

STRENGTHS = tuple(np.logspace(2, -2, 5))
"""L2 strengths of the box, for a kernel whose diagonal is 1 on average. On the one set tried (three
classes, 503 images, MobileNetV2) those from 0.1 downwards differ by 0.002 of mean IoU on
validation, over plain and moved copies; 0.3 costs 0.005."""

OWN = 2.0
"""Variance of what a class's weights have of their own, beside 1 of what they share. Measured as
for `STRENGTHS`, 5 views: validation mean IoU, over plain and moved copies, 0.789 with 0, 0.797 with
0.5, 0.799 with 2, 0.799 with 5, 0.798 with 20."""

CHUNK_BYTES, BLOCK_BYTES = 2**26, 2**28
"""Of features that are worked on at a time: all numbers of some images; some numbers of all."""

STAGES = ("pooling", "class", "products", "strengths", "weights")
"""What is done one after the other, as a person is shown it."""

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
    x: Rows,
    y: np.ndarray,
    val_x: Rows,
    val_y: np.ndarray,
    task: Localisation,
    pool: Pool,
    how: Selection,
    groups: np.ndarray,
    stage: Callable[[str], Any] = lambda name: None,
) -> LocatedHead:
    """Solve the class by `solve_head` and the box by ridge regression.

    The strength of the box is that of the least squared error on images left out, with all their
    views and with the rest of their group, which has a closed form (Hastie, Tibshirani & Friedman
    2009, equation 7.64, for blocks of rows).

    Args:
        x, val_x: feature maps (n, height, width, channels); `x` of `how.views` views of all images,
            view after view.
        y, val_y: rows of `Boxes`, for each view.
        pool: from maps to the pooled features that the class is read off.
        how: of the class.
        groups: number of the group of each image (images,).
        stage: called with each of `STAGES` as it begins.
    """
    images, views = len(y) // how.views, how.views
    stage("pooling")
    features = [_pooled(maps, pool) for maps in (x, val_x)]
    stage("class")
    named, reason = _solve_class(features, (y[:images, 0], val_y[:, 0]), task, how)
    shown = np.flatnonzero(y[:, 1] >= 0)
    rows = shown if len(shown) <= VIEWS_SOLVED else shown[_spread(len(shown), VIEWS_SOLVED)]
    shares = tuple(_probabilities(part, named) for part in (features[0][rows], features[1]))
    stage("products")
    classes = np.eye(task.classes)[y[rows, 0].astype(int)]
    design = _Design(x, rows, classes if task.own_boxes > 1 else classes[:, :0])
    products = design.products(val_x, shares[1])
    stage("strengths")
    members = _members(np.tile(groups, views)[rows])
    path, (l2, alpha, bias) = _tried(
        products, design.means, (y[rows], val_y), shares, task, members
    )
    stage("weights")
    weights, shift = design.weights(alpha)
    left = f" on {len(rows):,} of {len(shown):,} views" if len(rows) < len(shown) else ""
    text = f"class: {reason}; box: L2 {l2:.2g} by leaving images out, one by one{left}"
    box = weights.astype(np.float32), (np.tile(bias, task.own_boxes) + shift).astype(np.float32)
    return LocatedHead(named, box, path, l2, text)


def _tried(
    products: tuple[np.ndarray, np.ndarray],
    means: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray],
    shares: tuple[np.ndarray, np.ndarray],
    task: Localisation,
    members: list[np.ndarray],
) -> tuple[tuple[Step, ...], tuple[float, np.ndarray, np.ndarray]]:
    """Return a step for each of `STRENGTHS`, and strength, dual solution and bias of the best.

    Args:
        products, means: of `_Design`.
        truth: rows of `Boxes` of training and validation part.
        shares: probabilities of their classes.
    """
    kernel, crossed = products
    targets = task.scaled(truth[0])
    centre = targets.mean(axis=0)
    path, found = [], []
    for l2 in map(float, STRENGTHS):
        alpha, error = _solved(kernel, targets - centre, l2, members)
        bias = centre - means @ alpha
        boxes = [task.unscaled(z) for z in (kernel @ alpha + centre, crossed @ alpha + bias)]
        answers = (np.concatenate(pair, axis=1) for pair in zip(shares, boxes, strict=True))
        scores = map(task.assess, truth, answers)
        path.append(Step(l2, *next(scores), *next(scores)))
        found.append((error, l2, alpha, bias))
    return tuple(path), min(found, key=lambda row: row[0])[1:]


def _solve_class(
    features: list[np.ndarray], targets: tuple[np.ndarray, ...], task: Localisation, how: Selection
) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    (x, val_x), (y, val_y) = features, (named.astype(np.int32) for named in targets)
    if task.classes < 2:
        return (np.zeros((x.shape[1], 1), np.float32), np.full(1, SURE, np.float32)), "one alone"
    chosen = solve_head(x, y, val_x, val_y, task.classifier, how)
    return (chosen.delivered.kernel, chosen.delivered.bias), chosen.reason


class _Design:
    """Features of some images, standardised one by one, as the box is solved on them.

    Args:
        rows: of the images.
        classes: theirs (rows, classes), 0 and 1; (rows, 0): classes have nothing of their own.

    Attributes:
        means: of the columns of the kernel, before it was centred.
    """

    def __init__(self, x: Rows, rows: np.ndarray, classes: np.ndarray):
        self._x, self._rows, self._classes = x, rows, classes
        self._mean, self._scale = np.zeros((2, x[:1].size), np.float32)
        width = max(1, BLOCK_BYTES // (4 * len(rows)))
        self._blocks = [slice(i, i + width) for i in range(0, len(self._mean), width)]
        self._size, self.means = 1.0, np.zeros(len(rows))

    def _standard(self, x: Rows, rows: Any, part: slice) -> np.ndarray:
        return (x.numbers(rows, part) - self._mean[part]) / self._scale[part]

    def products(self, x: Rows, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel float64 (rows, rows), its diagonal 1 on average before it is centred,
        as the bias is free; and the products (others, rows) of other images, all of `x`.

        Args:
            probabilities: of the classes of `x` (others, classes).
        """
        kernel, crossed = (np.zeros((n, len(self._rows))) for n in (len(self._rows), len(x)))
        for part in self._blocks:
            own = self._x.numbers(self._rows, part)
            self._mean[part] = own.mean(axis=0, dtype=np.float64)
            own -= self._mean[part]
            scale = np.sqrt(np.einsum("ij,ij->j", own, own) / len(own))
            # What never changes tells nothing.
            self._scale[part] = np.where(scale > 1e-6, scale, np.inf)
            own /= self._scale[part]
            kernel += own @ own.T  # NumPy sees that it is symmetric, and computes half
            crossed += self._standard(x, slice(None), part) @ own.T
        self._size = max(float(np.trace(kernel)) / len(kernel), 1e-12)
        kernel *= self._shared(self._classes) / self._size
        crossed *= self._shared(probabilities[:, : self._classes.shape[1]]) / self._size
        self.means = kernel.mean(axis=0)
        kernel += self.means.mean() - self.means - self.means[:, None]
        return kernel, crossed

    def _shared(self, classes: np.ndarray) -> np.ndarray:
        """Return the covariance of weights between classes (n, classes) and those of the rows."""
        own = OWN if self._classes.size else 0.0
        return (1 + own * (classes @ self._classes.T)) / (1 + own)

    def weights(self, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (features, classes * outputs) on features as they are, and what they add
        to the bias, of a dual solution (rows, outputs)."""
        classes = self._classes.shape[1]
        shared = self._shared(np.eye(classes) if classes else np.zeros((1, 0)))
        duals = (shared.T[:, :, None] * alpha[:, None]).reshape(len(alpha), -1) / self._size
        duals = duals.astype(np.float32)
        parts = [self._standard(self._x, self._rows, part).T @ duals for part in self._blocks]
        weights = np.concatenate(parts) / self._scale[:, None]
        return weights, -self._mean.astype(np.float64) @ weights


def _spread(count: int, most: int) -> np.ndarray:
    """Return `most` of `count` indices, as evenly as they can lie: of all views and images."""
    return np.arange(most) * count // most


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _solved(
    kernel: np.ndarray, targets: np.ndarray, l2: float, members: list[np.ndarray]
) -> tuple[np.ndarray, float]:
    """Return the dual solution (n, outputs), and the mean squared error on groups left out.

    Args:
        kernel: (n, n), with rows of mean 0.
        targets: (n, outputs), with mean 0.
    """
    # One thread: two take as long where others (TensorFlow's) hold the cores, or five times that.
    with threadpool_limits(1):
        factor, _ = cho_factor(kernel + l2 * np.eye(len(kernel)), lower=True, check_finite=False)
        alpha = cho_solve((factor, True), targets, check_finite=False)
        root, _ = lapack.dtrtri(np.tril(factor), lower=True, overwrite_c=True)
        total = 0.0
        for own in members:
            inverse = root[:, own].T @ root[:, own]
            # Where one group is all there is, nothing is left to tell it by.
            rest = np.eye(len(own)) * 1e-9 + l2 * inverse - 1 / len(kernel)
            total += float(np.square(np.linalg.solve(rest, l2 * alpha[own])).sum())
    return alpha, total / targets.size


def _pooled(x: Rows, pool: Pool) -> np.ndarray:
    size = max(1, CHUNK_BYTES // (4 * x[:1].size))
    return np.concatenate([pool(x[i : i + size]) for i in range(0, len(x), size)])


def _probabilities(features: np.ndarray, named: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    raw = features @ named[0] + named[1]
    raw = np.exp(raw - raw.max(axis=1, keepdims=True))
    return raw / raw.sum(axis=1, keepdims=True)
