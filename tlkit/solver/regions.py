"""A detector by regions, solved (Girshick et al. 2014, R-CNN): windows are drawn from all views,
told apart from background by softmax with one pass of hard negatives, and moved by ridge
regression; then once more where they were moved to, by weights of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.solver.solve import Step
from tlkit.solver.window_layers import Scale, Softmax, loss_of, ridge, scale_of
from tlkit.solver.window_samples import (
    CHUNK,
    Judge,
    Sample,
    Sampler,
    Views,
    axes_of,
    widened,
)
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.regions import STAGES, RegionDetection

PAIRED = (0.6, 0.5)
"""Intersection over union from which a window tells how to move: the first is R-CNN's (appendix C),
at the second stage most have been moved that far."""

STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03)
"""L2 strengths of the softmax, strong to weak."""

BOX_STRENGTHS = (300_000.0, 100_000.0, 30_000.0, 10_000.0, 3_000.0)
"""Of the ridge regression; R-CNN has 1,000 for all (appendix C), on numbers as they are; these are
standardised."""

MEASURED = 256
"""Views of the training part that each strength is measured on; the first are images as they
are."""

AXES_FROM = 64
"""Views whose cells principal axes are of."""

STEPS = STAGES * (4 + len(STRENGTHS))
"""How often `advance` is called."""

Install = Callable[[int, np.ndarray], None]
"""Puts weights (numbers + 1, outputs), bias last, of a stage into the model."""


@dataclass(frozen=True)
class Regions:
    """How the weights, which are in the model, were found.

    Attributes:
        path: a step for each strength of the last stage's classes.
        l2: the strength chosen.
        reason: how, for the person who watches.
    """

    path: tuple[Step, ...]
    l2: float
    reason: str


def solve_regions(
    train: Views,
    val: Views,
    task: RegionDetection,
    judge: Judge,
    install: Install,
    seed: int = 0,
    advance: Callable[[str], None] = lambda name: None,
) -> Regions:
    """Solve all stages, one after the other.

    Both strengths are those with the lowest loss on windows of the validation part, drawn like
    those of the training part.

    Args:
        seed: of what is drawn.
        advance: called `STEPS` times, with what is done next.
    """
    reasons = []
    # As in `solver.solve`: more threads lose where TensorFlow's hold the cores.
    with threadpool_limits(1):
        axes = [axes_of(maps) for maps in train.maps(np.arange(min(AXES_FROM, len(train.boxes))))]

        def put(stage: int, weights: np.ndarray) -> None:
            install(stage, widened(weights, axes))

        for stage in range(1, STAGES + 1):
            draw = np.random.default_rng((seed, stage))
            sampler = Sampler(stage, task, judge, draw, axes)
            step, said, path = _Stage(sampler, put, advance).solve(train, val)
            reasons.append(said)
    return Regions(path, step.l2, "; ".join(reasons))


def recall(task: RegionDetection, boxes: np.ndarray, least: float = 0.5) -> float | None:
    """Return the share of objects that a window of the grid overlaps with by `least`; None: there
    is no object.

    Args:
        boxes: rows of `BoxSets` (images, boxes, 7).
    """
    grid, found = task.windows, []
    for row in boxes:
        own = row[row[:, 5] > 0, 1:5]
        if len(own):
            found.append(overlap(own[:, None], grid[None], np).max(axis=1) >= least)
    return float(np.concatenate(found).mean()) if found else None


class _Stage:
    """One stage being solved."""

    def __init__(self, sampler: Sampler, put: Install, advance: Callable[[str], None]):
        self._sampler, self._put, self._advance = sampler, put, advance
        self._stage, self._classes = sampler.stage, len(sampler.task.outputs)

    def solve(self, train: Views, val: Views) -> tuple[Step, str, tuple[Step, ...]]:
        """Return the step that was chosen, how, and all steps."""
        self._say("windows")
        parts = [self._sampler.sampled(views) for views in (train, val)]
        scale = scale_of(parts[0].x)
        for part in parts:
            scale.apply(part.x)
        self._say("boxes")
        boxes, box_l2 = self._boxes(*parts)
        self._say("classes")
        softmax = Softmax(parts[0].x, self._classes + 1)
        named = softmax.solve(parts[0].x, parts[0].classes, STRENGTHS[-2])
        self._install(scale, named, boxes)
        self._say("hard negatives")
        for i, views in enumerate((train, val)):
            more = self._sampler.hard(views)
            scale.apply(more.x)
            parts[i] = parts[i].joined(more)
        step, path = self._strongest(softmax, parts, scale, boxes, (train, val))
        objects = int((parts[0].classes < self._classes).sum())
        said = (
            f"stage {self._stage}: {objects:,} windows on objects, "
            f"{len(parts[0].classes) - objects:,} on background; L2 of classes {step.l2:g}, of "
            f"boxes {box_l2:,.0f}, by validation loss"
        )
        return step, said, path

    def _say(self, what: str) -> None:
        self._advance(f"stage {self._stage}: {what}")

    def _boxes(self, train: Sample, val: Sample) -> tuple[np.ndarray, float]:
        """Return weights (numbers + 1, 4 * classes) that move windows, and their strength: the one
        with the least squared error on the validation part, of all classes together."""
        kernels, errors = [], np.zeros(len(BOX_STRENGTHS))
        for number in range(self._classes):
            (x, moves), (val_x, val_moves) = (
                (part.x[rows], part.moves[rows])
                for part in (train, val)
                for rows in [(part.classes == number) & (part.overlaps >= PAIRED[self._stage - 1])]
            )
            if not len(x):  # nothing to learn from: such windows stay
                kernels.append([np.zeros((train.x.shape[1] + 1, 4), np.float32)] * len(errors))
                continue
            kernels.append(ridge(x, moves, BOX_STRENGTHS))
            for i, weights in enumerate(kernels[-1]):
                errors[i] += np.square(val_x @ weights[:-1] + weights[-1] - val_moves).sum()
        best = int(errors.argmin())
        return np.concatenate([own[best] for own in kernels], axis=1), BOX_STRENGTHS[best]

    def _strongest(
        self,
        softmax: Softmax,
        parts: list[Sample],
        scale: Scale,
        boxes: np.ndarray,
        views: tuple[Views, Views],
    ) -> tuple[Step, tuple[Step, ...]]:
        """Solve for each strength, put the best into the model, and return its step and all; what
        the whole detector then gives is measured at the last stage."""
        (x, y), (val_x, val_y) = ((part.x, part.classes) for part in parts)
        named, path, found = None, [], []
        for l2 in STRENGTHS:
            self._say(f"L2 {l2:g}")
            named = softmax.solve(x, y, l2, named)
            metrics = (0.0, 0.0)
            if self._stage == STAGES:
                self._install(scale, named, boxes)
                metrics = tuple(map(self._measured, views))
            losses = loss_of(x, y, named), loss_of(val_x, val_y, named)
            path.append(Step(l2, losses[0], metrics[0], losses[1], metrics[1]))
            found.append(named)
        best = min(range(len(path)), key=lambda i: path[i].val_loss)
        self._install(scale, found[best], boxes)
        return path[best], tuple(path)

    def _measured(self, views: Views) -> float:
        """Return the metric of the task on views, of some of them where there are many."""
        rows = np.arange(min(len(views.boxes), MEASURED))
        parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        answers = [self._sampler.judge(self._stage, views.maps(part)) for part in parts]
        return self._sampler.task.whole_metric([(views.boxes[rows], np.concatenate(answers))])

    def _install(self, scale: Scale, named: np.ndarray, boxes: np.ndarray) -> None:
        self._put(self._stage, scale.folded(np.concatenate([named, boxes], axis=1)))
