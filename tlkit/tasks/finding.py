"""Tasks whose answer is any number of objects: of overlapping boxes the best stays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.tasks.detections import Found
from tlkit.tasks.suppression import LEAST_SCORE, MOST_FOUND, suppressed
from tlkit.tasks.task import Task


class FindingTask(Task):
    """A task whose model answers with more boxes than there are objects.

    Where those of a class overlap by more than `most_overlap`, the best is an answer, if it reaches
    the class's part of `least_scores`.
    """

    finds: ClassVar[bool] = True
    ranks_whole: ClassVar[bool] = True

    @property
    @abstractmethod
    def most_overlap(self) -> float:
        """Intersection over union up to which two boxes of one class are two objects."""

    @property
    @abstractmethod
    def least_scores(self) -> tuple[float, ...]:
        """The score from which on a box is an answer, for each class."""

    @abstractmethod
    def whole_metric(self, answered: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        """Return the metric of all answers to a part: targets and outputs, batch by batch."""

    @abstractmethod
    def candidates(self, outputs: Any, sizes: Any, xp: Any = keras.ops) -> tuple[Any, Any]:
        """Return all boxes that may be objects (n, cells, 4), x1, y1, x2, y2 in pixels of the
        original images, and the score of each class (n, cells, classes).

        Args:
            outputs: of the model.
            sizes: int64 (n, 2), height and width of the original images in pixels, upright.
            xp: `numpy` or `keras.ops`.
        """

    def found(
        self, row: np.ndarray, height: int, width: int, least: np.ndarray | float = LEAST_SCORE
    ) -> Found:
        """Return what is found in an image, in its own pixels, whatever `least_scores` says.

        Args:
            row: of the model's output.
            height, width: of the upright original.
            least: see `suppressed`.
        """
        boxes, scores = self.candidates(row[None], np.array([[height, width]]), np)
        return suppressed(boxes[0], scores[0], self.most_overlap, least)

    def accepted(self, row: np.ndarray, height: int, width: int) -> Found:
        """Return those that are answers: also where `found` is full of others."""
        return self.found(row, height, width, np.array(self.least_scores, np.float32))

    def listed(self, outputs: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Return what an export lists of the answers, see `export.objects`: `boxes`, `scores`,
        `classes` and `count`."""
        every = [self.accepted(row, *size) for row, size in zip(outputs, sizes, strict=True)]
        form = [(len(every), MOST_FOUND, *x.shape[1:]) for x in every[0]]
        filled = Found(*(np.zeros(x, own.dtype) for x, own in zip(form, every[0], strict=True)))
        for i, own in enumerate(every):
            for whole, part in zip(filled, own, strict=True):
                whole[i, : len(part)] = part
        return {**filled._asdict(), "count": np.array([len(own.scores) for own in every])}
