"""The windows that a detector by regions learns from: drawn from views, told what they show, and
read off the maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.regions import BINS, HELD, KEPT, RegionDetection, moved, moves_to
from tlkit.tasks.roi_align import vectors

OBJECT = (0.5, 0.6)
"""Intersection over union from which a window is one of an object, at each stage: the first is
R-CNN's (Girshick et al. 2014, section 2.3), the second that of Cai & Vasconcelos 2018, section 4.
"""

BACKGROUND = (0.3, 0.4)
"""Below which it is background; what lies between says nothing."""

JITTER, JITTERED = 0.12, 2
"""Deviation of moves, in sides, that true boxes are drawn with at the first stage, and how often
each: a grid has few windows on an object."""

FEWEST, MOST = 6, 64
"""Windows that are drawn from a view."""

MOST_CHANNELS = 320
"""Of a level; a map with more (ResNet50: 2,048) is read along so many principal axes of its cells.
Layers are linear, so that what is delivered reads the map itself."""

SHARES = {"object": 0.4, "near": 0.2, "far": 0.15, "hard": 0.25}
"""Of them: on objects, beside objects, elsewhere, and those that were taken for objects."""

BESIDE = 0.1
"""Intersection over union from which background lies beside an object."""

CHUNK = 16
"""Most views whose windows are judged in one call."""

Judge = Callable[[int, tuple[np.ndarray, ...]], np.ndarray]
"""From a stage and maps (n, height, width, channels) of each level to what the stage answers (n,
windows, 4 + classes)."""

Choose = Callable[[np.ndarray, np.ndarray, Any, int], "Labelled"]
"""From the windows of a view, rows of its objects, scores and a count to those that are taken."""


class Views(NamedTuple):
    """Views of images.

    Attributes:
        maps: called with indices; the maps of these views at each level.
        boxes: rows of `BoxSets` (views, boxes, 7).
    """

    maps: Callable[[Any], tuple[np.ndarray, ...]]
    boxes: np.ndarray


class Labelled(NamedTuple):
    """Windows of one view (n, 4): numbers of classes, the last of them background, -1 says nothing;
    how to move each (n, 4); and its intersection over union with the object it is nearest to."""

    windows: np.ndarray
    classes: np.ndarray
    moves: np.ndarray
    overlaps: np.ndarray


class Sample(NamedTuple):
    """Windows of many views: vectors float32 (n, numbers), and the columns of `Labelled`."""

    x: np.ndarray
    classes: np.ndarray
    moves: np.ndarray
    overlaps: np.ndarray

    def joined(self, other: Sample) -> Sample:
        """Return the windows of both."""
        return Sample(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Sampler:
    """Draws the windows of one stage.

    Attributes:
        axes: of each level, see `axes_of`.
    """

    stage: int
    task: RegionDetection
    judge: Judge
    draw: np.random.Generator
    axes: list[np.ndarray]

    def sampled(self, views: Views) -> Sample:
        """Return windows on objects, beside and far from them."""
        return self._collected(views, lambda rows: [None] * len(rows), self._at_random)

    def hard(self, views: Views) -> Sample:
        """Return the background that the stage takes most for an object (Girshick et al. 2014,
        section 2.3: hard negatives)."""

        def scores(rows: np.ndarray) -> list[np.ndarray]:
            return list(self.judge(self.stage, views.maps(rows))[..., 4:].max(axis=-1))

        return self._collected(views, scores, self._hardest)

    def _candidates(self, views: Views, rows: np.ndarray) -> list[np.ndarray]:
        """Return the windows of views that the stage looks at."""
        if self.stage == 1:
            return [self.task.windows] * len(rows)
        answers = self.judge(self.stage - 1, views.maps(rows))
        order = np.argsort(-answers[..., 4:].max(axis=-1), axis=1, kind="stable")[:, :KEPT]
        return list(np.take_along_axis(answers, order[..., None], axis=1)[..., :4])

    def _collected(self, views: Views, scores: Callable, choose: Choose) -> Sample:
        found, labelled = [], []
        width = sum(axes.shape[1] for axes in self.axes) * BINS**2
        count = int(np.clip(HELD // (width * len(views.boxes)), FEWEST, MOST))
        for start in range(0, len(views.boxes), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(views.boxes)))
            levels = [_turned(*pair) for pair in zip(views.maps(rows), self.axes, strict=True)]
            several = zip(rows, self._candidates(views, rows), scores(rows), strict=True)
            for i, (row, windows, own) in enumerate(several):
                chosen = choose(windows, views.boxes[row], own, count)
                read = [vectors(maps[i], chosen.windows, BINS) for maps in levels]
                found.append(np.concatenate(read, axis=1))
                labelled.append(chosen[1:])
        columns = (np.concatenate(column) for column in zip(*labelled, strict=True))
        return Sample(np.concatenate(found), *columns)

    def _at_random(self, windows: np.ndarray, boxes: np.ndarray, _: Any, count: int) -> Labelled:
        true = boxes[boxes[:, 5] > 0, 1:5]
        extra = [true]
        if self.stage == 1:
            again = np.repeat(true, JITTERED, axis=0)
            moves = self.draw.normal(0, JITTER, again.shape).astype(np.float32)
            extra.append(moved(again, moves, np))
        labelled = self.labelled(np.concatenate([windows, *extra]), boxes)
        background = labelled.classes == len(self.task.outputs)
        near = background & (labelled.overlaps >= BESIDE)
        kinds = {"object": (labelled.classes >= 0) & ~background, "near": near}
        kinds["far"] = background & ~near
        chosen = [
            self.draw.permutation(np.flatnonzero(kind))[: max(1, round(SHARES[name] * count))]
            for name, kind in kinds.items()
        ]
        return Labelled(*(column[np.concatenate(chosen)] for column in labelled))

    def _hardest(
        self, windows: np.ndarray, boxes: np.ndarray, scores: np.ndarray, count: int
    ) -> Labelled:
        labelled = self.labelled(windows, boxes)
        background = np.flatnonzero(labelled.classes == len(self.task.outputs))
        order = background[np.argsort(-scores[background], kind="stable")]
        chosen = order[: max(1, round(SHARES["hard"] * count))]
        return Labelled(*(column[chosen] for column in labelled))

    def labelled(self, windows: np.ndarray, boxes: np.ndarray) -> Labelled:
        """Return what each window shows.

        Args:
            windows: (n, 4).
            boxes: the objects of its view, rows of `BoxSets` (boxes, 7).
        """
        own, nothing = boxes[boxes[:, 5] > 0], len(self.task.outputs)
        if not len(own):
            zeros = np.zeros((len(windows), 4), np.float32)
            return Labelled(windows, np.full(len(windows), nothing), zeros, zeros[:, 0])
        overlaps = overlap(windows[:, None], own[None, :, 1:5], np)
        nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
        classes = np.where(best < BACKGROUND[self.stage - 1], nothing, -1)
        classes = np.where(best >= OBJECT[self.stage - 1], own[nearest, 0].astype(int), classes)
        return Labelled(windows, classes, moves_to(windows, own[nearest, 1:5]), best)


def axes_of(maps: np.ndarray) -> np.ndarray:
    """Return the axes (channels, at most `MOST_CHANNELS`) that maps are read along."""
    channels = maps.shape[-1]
    if channels <= MOST_CHANNELS:
        return np.eye(channels, dtype=np.float32)
    cells = maps.reshape(-1, channels)
    centred = cells - cells.mean(axis=0)
    return np.linalg.eigh(centred.T @ centred)[1][:, -MOST_CHANNELS:].astype(np.float32)


def _turned(maps: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return maps if axes.shape[0] == axes.shape[1] else maps @ axes


def widened(weights: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """Return weights (numbers + 1, outputs) on maps as they are, of such on their axes."""
    parts, at = [], 0
    for own in axes:
        count = BINS**2 * own.shape[1]
        kernel = weights[at : at + count].reshape(BINS**2, own.shape[1], -1)
        parts.append((own @ kernel).reshape(BINS**2 * own.shape[0], -1))
        at += count
    return np.concatenate([*parts, weights[-1:]])
