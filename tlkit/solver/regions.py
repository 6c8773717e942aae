"""A detector by regions, solved (Girshick et al. 2014, R-CNN): windows are drawn from all views,
told apart from background by softmax with one pass of hard negatives, and moved by ridge
regression; then once more where they were moved to, by weights of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.solver.solve import Step
from tlkit.solver.window_layers import Scale, Softmax, loss_of, ridge, scale_of
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.regions import BINS, KEPT, STAGES, RegionDetection, moved, moves_to
from tlkit.tasks.roi_align import vectors

OBJECT = (0.5, 0.6)
"""Intersection over union from which a window is one of an object, at each stage: the first is
R-CNN's (Girshick et al. 2014, section 2.3), the second that of Cai & Vasconcelos 2018, section 4.
"""

BACKGROUND = (0.3, 0.4)
"""Below which it is background; what lies between says nothing."""

PAIRED = (0.6, 0.5)
"""From which it tells how to move: the first is R-CNN's (appendix C), at the second stage most have
been moved that far."""

JITTER, JITTERED = 0.12, 2
"""Deviation of moves, in sides, that true boxes are drawn with at the first stage, and how often
each: a grid has few windows on an object."""

STRENGTHS = (1.0, 0.3, 0.1, 0.03)
"""L2 strengths of the softmax, strong to weak."""

BOX_STRENGTHS = (100_000.0, 30_000.0, 10_000.0, 3_000.0, 1_000.0)
"""Of the ridge regression; R-CNN has 1,000 for all (appendix C)."""

BYTES = 2**29
"""Of vectors that are held at a time."""

FEWEST, MOST = 6, 64
"""Windows that are drawn from a view."""

SHARES = {"object": 0.4, "near": 0.2, "far": 0.15, "hard": 0.25}
"""Of them: on objects, beside objects, elsewhere, and those that were taken for objects."""

BESIDE = 0.1
"""Intersection over union from which background lies beside an object."""

CHUNK = 16
"""Views whose windows are judged in one call."""

Judge = Callable[[int, tuple[np.ndarray, ...]], np.ndarray]
"""From a stage and maps (n, height, width, channels) of each level to what the stage answers (n,
windows, 4 + classes)."""


class Views(NamedTuple):
    """Views of images.

    Attributes:
        maps: called with indices; the maps of these views at each level.
        boxes: rows of `BoxSets` (views, boxes, 7).
    """

    maps: Callable[[Any], tuple[np.ndarray, ...]]
    boxes: np.ndarray


class Drawn(NamedTuple):
    """Windows of one view: numbers of classes, the last of them background; how to move each, and
    its intersection over union with the object it is nearest to."""

    windows: np.ndarray
    classes: np.ndarray
    moves: np.ndarray
    overlaps: np.ndarray


@dataclass(frozen=True)
class Regions:
    """How the weights, which are in the model, were found: see `Solved`."""

    path: tuple[Step, ...]
    l2: float
    reason: str


def solve_regions(
    train: Views,
    val: Views,
    task: RegionDetection,
    judge: Judge,
    install: Callable[[int, np.ndarray], None],
    seed: int = 0,
    advance: Callable[[str], None] = lambda name: None,
) -> Regions:
    """Solve all stages, one after the other.

    Both strengths are those with the lowest loss on windows of the validation part.

    Args:
        install: puts weights (numbers + 1, outputs), bias last, of a stage into the model.
        seed: of what is drawn.
        advance: called with what is done next.
    """
    reasons, path = [], ()
    with threadpool_limits(1):
        for stage in range(1, STAGES + 1):
            work = _Stage(stage, task, judge, install, np.random.default_rng((seed, stage)))
            step, said, path = work.solve(train, val, advance)
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

    def __init__(self, stage, task, judge, install, draw):
        self._stage, self._task, self._judge, self._install = stage, task, judge, install
        self._draw, self._classes = draw, len(task.outputs)

    def solve(self, train: Views, val: Views, advance: Callable[[str], None]):
        """Return the step that was chosen, how, and all steps."""
        advance(f"stage {self._stage}: windows")
        parts = [self._sampled(views) for views in (train, val)]
        scale = scale_of(parts[0][0])
        for part in parts:
            scale.apply(part[0])
        advance(f"stage {self._stage}: boxes")
        boxes, box_l2 = self._boxes(*parts)
        advance(f"stage {self._stage}: classes")
        softmax = Softmax(parts[0][0], self._classes + 1)
        named = softmax.solve(parts[0][0], parts[0][1], STRENGTHS[1])
        self._put(scale, named, boxes)
        advance(f"stage {self._stage}: hard negatives")
        parts = [
            self._with_hard(part, views, scale)
            for part, views in zip(parts, (train, val), strict=True)
        ]
        step, path = self._strongest(softmax, parts, scale, boxes, (train, val), advance)
        count = int((parts[0][1] < self._classes).sum())
        said = (
            f"stage {self._stage}: {count:,} windows on objects, {len(parts[0][1]) - count:,} on "
            f"background; L2 of classes {step.l2:g}, of boxes {box_l2:,.0f}, by validation loss"
        )
        return step, said, path

    def _candidates(self, views: Views, rows: np.ndarray) -> list[np.ndarray]:
        """Return the windows of views that the stage looks at."""
        if self._stage == 1:
            return [self._task.windows] * len(rows)
        answers = self._judge(self._stage - 1, views.maps(rows))
        order = np.argsort(-answers[..., 4:].max(axis=-1), axis=1, kind="stable")[:, :KEPT]
        return list(np.take_along_axis(answers, order[..., None], axis=1)[..., :4])

    def _sampled(self, views: Views):
        return self._collected(views, lambda rows: [None] * len(rows), self._drawn)

    def _with_hard(self, part, views: Views, scale: Scale):
        def scores(rows: np.ndarray) -> list[np.ndarray]:
            return list(self._judge(self._stage, views.maps(rows))[..., 4:].max(axis=-1))

        more = self._collected(views, scores, self._hard)
        scale.apply(more[0])
        return tuple(np.concatenate(pair) for pair in zip(part, more, strict=True))

    def _collected(self, views: Views, scores: Callable, choose: Callable):
        """Return vectors, classes, moves and overlaps of the windows chosen of all views."""
        found, drawn = [], []
        width = sum(maps.shape[-1] for maps in views.maps(np.arange(1))) * BINS**2
        count = int(np.clip(BYTES // (4 * width * len(views.boxes)), FEWEST, MOST))
        for start in range(0, len(views.boxes), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(views.boxes)))
            levels = views.maps(rows)
            several = zip(rows, self._candidates(views, rows), scores(rows), strict=True)
            for i, (row, windows, own) in enumerate(several):
                chosen = choose(windows, views.boxes[row], own, count)
                read = [vectors(maps[i], chosen.windows, BINS) for maps in levels]
                found.append(np.concatenate(read, axis=1))
                drawn.append(chosen)
        columns = list(zip(*drawn, strict=True))[1:]
        return np.concatenate(found), *(np.concatenate(column) for column in columns)

    def _drawn(self, windows: np.ndarray, boxes: np.ndarray, _: None, count: int) -> Drawn:
        true = boxes[boxes[:, 5] > 0, 1:5]
        extra = [true]
        if self._stage == 1:
            again = np.repeat(true, JITTERED, axis=0)
            moves = self._draw.normal(0, JITTER, again.shape).astype(np.float32)
            extra.append(moved(again, moves, np))
        labelled = self._labelled(np.concatenate([windows, *extra]), boxes)
        background = labelled.classes == self._classes
        near = background & (labelled.overlaps >= BESIDE)
        kinds = {"object": (labelled.classes >= 0) & ~background, "near": near}
        kinds["far"] = background & ~near
        chosen = [
            self._draw.permutation(np.flatnonzero(kind))[: max(1, round(SHARES[name] * count))]
            for name, kind in kinds.items()
        ]
        return Drawn(*(column[np.concatenate(chosen)] for column in labelled))

    def _hard(
        self, windows: np.ndarray, boxes: np.ndarray, scores: np.ndarray, count: int
    ) -> Drawn:
        """Return the background that is most taken for an object (Girshick et al. 2014, section
        2.3: hard negatives)."""
        labelled = self._labelled(windows, boxes)
        background = np.flatnonzero(labelled.classes == self._classes)
        order = background[np.argsort(-scores[background], kind="stable")]
        chosen = order[: max(1, round(SHARES["hard"] * count))]
        return Drawn(*(column[chosen] for column in labelled))

    def _labelled(self, windows: np.ndarray, boxes: np.ndarray) -> Drawn:
        """Return what each window shows; class -1: it says nothing."""
        own = boxes[boxes[:, 5] > 0]
        if not len(own):
            nothing = np.zeros(len(windows), np.float32)
            classes = np.full(len(windows), self._classes)
            return Drawn(windows, classes, np.zeros((len(windows), 4), np.float32), nothing)
        overlaps = overlap(windows[:, None], own[None, :, 1:5], np)
        nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
        least, most = OBJECT[self._stage - 1], BACKGROUND[self._stage - 1]
        classes = np.where(best < most, self._classes, -1)
        classes = np.where(best >= least, own[nearest, 0].astype(int), classes)
        return Drawn(windows, classes, moves_to(windows, own[nearest, 1:5]), best)

    def _boxes(self, train, val) -> tuple[np.ndarray, float]:
        """Return weights (numbers + 1, 4 * classes) that move windows, and their strength: the one
        with the least squared error on the validation part, of all classes together."""
        kernels, errors = [], np.zeros(len(BOX_STRENGTHS))
        for number in range(self._classes):
            (x, moves), (val_x, val_moves) = (
                (part[0][rows], part[2][rows])
                for part in (train, val)
                for rows in [(part[1] == number) & (part[3] >= PAIRED[self._stage - 1])]
            )
            if not len(x):  # nothing to learn from: such windows stay
                kernels.append([np.zeros((train[0].shape[1] + 1, 4), np.float32)] * len(errors))
                continue
            kernels.append(ridge(x, moves, BOX_STRENGTHS))
            for i, weights in enumerate(kernels[-1]):
                errors[i] += np.square(val_x @ weights[:-1] + weights[-1] - val_moves).sum()
        best = int(errors.argmin())
        return np.concatenate([own[best] for own in kernels], axis=1), BOX_STRENGTHS[best]

    def _strongest(self, softmax, parts, scale, boxes, views, advance):
        """Solve for each strength, put the best into the model, and return its step and all."""
        (x, y, *_), (val_x, val_y, *_) = parts
        last, named, path, found = self._stage == STAGES, None, [], []
        for l2 in STRENGTHS:
            advance(f"stage {self._stage}: L2 {l2:g}")
            named = softmax.solve(x, y, l2, named)
            metrics = (0.0, 0.0)
            if last:
                self._put(scale, named, boxes)
                metrics = tuple(map(self._measured, views))
            losses = loss_of(x, y, named), loss_of(val_x, val_y, named)
            path.append(Step(l2, losses[0], metrics[0], losses[1], metrics[1]))
            found.append(named)
        best = min(range(len(path)), key=lambda i: path[i].val_loss)
        self._put(scale, found[best], boxes)
        return path[best], tuple(path)

    def _measured(self, views: Views) -> float:
        """Return the metric of the task on views, of some of them where there are many."""
        rows = np.arange(min(len(views.boxes), MEASURED))
        parts = np.array_split(rows, max(1, len(rows) // CHUNK))
        answers = [self._judge(self._stage, views.maps(part)) for part in parts]
        return self._task.whole_metric(views.boxes[rows], np.concatenate(answers))

    def _put(self, scale: Scale, named: np.ndarray, boxes: np.ndarray) -> None:
        self._install(self._stage, scale.folded(np.concatenate([named, boxes], axis=1)))


MEASURED = 256
"""Views of the training part that each strength is measured on; the first are images as they
are."""
