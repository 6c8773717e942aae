"""Measures answers of several objects an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.data.annotations import Annotations
from tlkit.data.box_targets import CORNERS
from tlkit.data.csv_cells import csv_cell
from tlkit.lettering import lettering, missing_note
from tlkit.tasks.box_drawing import INK as ANSWER_INK
from tlkit.tasks.box_drawing import TRUE_INK, draw_tiles
from tlkit.tasks.detection_drawing import draw_boxes, draw_curves, draw_errors
from tlkit.tasks.detection_errors import ERRORS, KINDS, MISSED, RIGHT
from tlkit.tasks.detection_metrics import Assessment, assess
from tlkit.tasks.detections import Found, TrueObjects, true_objects
from tlkit.tasks.drawing import draw_confusion
from tlkit.tasks.evaluator import Evaluator

NOTHING = "(background)"
"""What stands for no class in drawings and tables."""

WORST = 12
"""Images that are drawn: those with most errors at the thresholds."""

COLUMNS = (
    *("id", "truth", "prediction", "kind", "score", "iou"),
    *(f"truth_{x}" for x in CORNERS),
    *CORNERS,
)


@dataclass
class DetectedObjects(Evaluator):
    """Holds true objects and answers of all images, not the model's outputs.

    Attributes:
        names: of the classes.
        decode: from a row of the model's output, height and width of the upright image in pixels,
            to its answers.
        thresholds: of the classes, chosen on other images, see `assess`.
    """

    names: tuple[str, ...]
    decode: Callable[[np.ndarray, int, int], Found]
    thresholds: tuple[float, ...] | None = None
    ids: list[str] = field(default_factory=list)
    truths: list[TrueObjects] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    _assessed: Assessment | None = None

    def update(
        self,
        ids: Sequence[str],
        labels: Sequence[Annotations],
        targets: np.ndarray,
        outputs: np.ndarray,
    ) -> None:
        for id_, label, row in zip(ids, labels, outputs, strict=True):
            self.ids.append(id_)
            self.truths.append(true_objects(label, self.names))
            self.found.append(self.decode(row, label.height, label.width))
        self._assessed = None

    @property
    def assessment(self) -> Assessment:
        """How well the objects are found; made once."""
        if self._assessed is None:
            self._assessed = assess(self.truths, self.found, self.names, self.thresholds)
        return self._assessed

    def result(self) -> dict[str, Any]:
        return self.assessment.metrics()

    def rows(self) -> list[list[str]]:
        """Return a row for each answer, best first in each image, and for each missed object.

        `kind`: as in `detection_errors.KINDS`, or `missed`; `truth`: the class of the object that
        the answer finds or is mistaken about; `iou`: with it.
        """
        matches, kinds = self.assessment.matches, self.assessment.kinds
        starts, true_starts = matches.bounds()
        rows = [list(COLUMNS)]
        for image, id_ in enumerate(self.ids):
            for i in range(*starts[image : image + 2]):
                about = int(kinds.about[i])
                given = self.names[matches.classes[i]], *_truth(matches, about, self.names)
                numbers = f"{matches.scores[i]:.6f}", f"{kinds.iou[i]:.6f}"
                kind = KINDS[kinds.kind[i]]
                rows.append(_row(id_, *given, kind, numbers, matches.boxes[i]))
            for j in range(*true_starts[image : image + 2]):
                if kinds.missed[j]:
                    truth = _truth(matches, j, self.names)
                    rows.append(_row(id_, "", *truth, MISSED, ("", ""), ()))
        return rows

    def draw(self, folder: Path) -> str:
        found, worst = self.assessment, self._worst()
        with lettering((*self.names, *self.ids)) as shown:
            draw_curves(found, shown, folder / "pr.png")
            names = [*map(shown, self.names), NOTHING]
            title = f"{found.objects:,} objects, answers from their class's threshold on"
            draw_confusion(found.confusion, names, folder / "confusion.png", title)
            draw_errors(found.kinds.count(), found.objects, folder / "errors.png")
            if worst:
                tiles = [(image, shown(text)) for image, text in worst]
                title = "most errors at the thresholds; true boxes in green"
                draw_tiles(tiles, title, folder / "worst.png")
        return missing_note(self.names, "pr.png")

    def _worst(self) -> list[tuple[np.ndarray, str]]:
        """Return the images with most errors, drawn, and what is said of each."""
        counts = self.error_counts()
        tiles = []
        for i in np.argsort(-counts.sum(axis=1), kind="stable")[:WORST]:
            truth, image = self.truths[i], self.original(self.ids[i])
            there = image is not None and image.shape[:2] == (truth.height, truth.width)
            if there and counts[i].any():
                each = zip(ERRORS, counts[i], strict=True)
                text = ", ".join(f"{count} {name}" for name, count in each if count)
                tiles.append((self._drawn(image, int(i)), f"{self.ids[i]}\n{text}"))
        return tiles

    def _drawn(self, image: np.ndarray, number: int) -> np.ndarray:
        """Return an image with its true boxes and its accepted answers."""
        found, truth = self.found[number], self.truths[number]
        counted = ~truth.aside
        image = draw_boxes(image, truth.boxes[counted], truth.classes[counted], (), ink=TRUE_INK)
        accepted = found.scores >= self.assessment.thresholds[found.classes]
        boxes, scores, classes = (x[accepted] for x in found)
        return draw_boxes(image, boxes, classes, self.names, scores, ANSWER_INK)

    def error_counts(self) -> np.ndarray:
        """Return how many errors of each of `ERRORS` each image has (images, 6)."""
        matches, kinds = self.assessment.matches, self.assessment.kinds
        counts = np.zeros((matches.images, len(ERRORS)), np.int64)
        wrong = kinds.wrong
        np.add.at(counts, (matches.image[wrong], kinds.kind[wrong] - RIGHT - 1), 1)
        np.add.at(counts, (matches.true_image[kinds.missed], ERRORS.index(MISSED)), 1)
        return counts


def _truth(matches: Any, place: int, names: Sequence[str]) -> tuple[str, Sequence[float]]:
    """Return class and corners of a true object; nothing of none."""
    if place < 0:
        return "", ()
    return names[matches.true_classes[place]], matches.true_boxes[place]


def _row(
    id_: str, prediction: str, truth: str, true_box: Sequence[float], kind: str,
    numbers: tuple[str, str], box: Sequence[float],
) -> list[str]:  # fmt: skip
    """Return a row of `COLUMNS`."""
    boxes = [[f"{x:.2f}" for x in own] or [""] * len(CORNERS) for own in (true_box, box)]
    named = [csv_cell(x) for x in (id_, truth, prediction)]
    return [*named, kind, *numbers, *boxes[0], *boxes[1]]
