"""Measures answers of one box and its class an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.data.annotations import Annotations
from tlkit.data.box_targets import CORNERS
from tlkit.data.csv_cells import csv_cell
from tlkit.errors import DataError
from tlkit.lettering import lettering, missing_note
from tlkit.tasks.box_drawing import TRUE_INK, draw_box, draw_overlaps, draw_tiles
from tlkit.tasks.box_loss import ciou
from tlkit.tasks.box_metrics import inside, localisation_metrics, overlap
from tlkit.tasks.evaluator import Evaluator

WORST = 12
"""Images whose answers are drawn, those of a wrong class first, then by IoU."""


@dataclass
class LocatedObjects(Evaluator):
    """Holds all targets and outputs: some numbers an image; those set aside are counted alone.

    Attributes:
        names: of the classes.
        decode: `Localisation.decode`.
        of_image: `Frame.of_image`.
        aside: objects that are not counted.
    """

    names: tuple[str, ...]
    decode: Callable[[np.ndarray, int, int], dict[str, Any]]
    of_image: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ids: list[str] = field(default_factory=list)
    labels: list[Annotations] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    aside: int = 0

    def update(
        self,
        ids: Sequence[str],
        labels: Sequence[Annotations],
        targets: np.ndarray,
        outputs: np.ndarray,
    ) -> None:
        counted = np.array([not label.boxes[0].aside for label in labels], bool)
        self.aside += int((~counted).sum())
        if counted.any():
            self.ids += [id_ for id_, own in zip(ids, counted, strict=True) if own]
            self.labels += [label for label, own in zip(labels, counted, strict=True) if own]
            self.targets.append(targets[counted])
            self.outputs.append(outputs[counted])

    def _overlaps(self) -> np.ndarray:
        """Return the IoU of each image (n,), of boxes in its own pixels."""
        targets, outputs = np.concatenate(self.targets), np.concatenate(self.outputs)
        sizes = np.array([(label.height, label.width) for label in self.labels])
        pairs = targets[:, 1:], inside(outputs[:, -4:], np)
        return overlap(*(self.of_image(boxes, sizes) for boxes in pairs), np)

    def result(self) -> dict[str, Any]:
        if not self.ids:
            raise DataError(
                f"measuring: all {self.aside} objects are marked as difficult, which do not count. "
                "Allowed: others as well"
            )
        targets, outputs = np.concatenate(self.targets), np.concatenate(self.outputs)
        complete = np.asarray(ciou(targets[:, 1:], outputs[:, -4:]))
        named, iou = targets[:, 0].astype(np.int64), self._overlaps()
        found = localisation_metrics(named, outputs[:, :-4], iou, complete, self.names)
        return {**found, "difficult_left_out": self.aside} if self.aside else found

    def rows(self) -> list[list[str]]:
        head = ["id", "truth", "prediction", "iou", *(f"truth_{x}" for x in CORNERS), *CORNERS]
        rows = [[*head, *(f"p_{name}" for name in self.names)]]
        every = zip(
            self.ids, self.labels, np.concatenate(self.outputs), self._overlaps(), strict=True
        )
        for id_, label, row, iou in every:
            found, box = self.decode(row, label.height, label.width), label.boxes[0]
            named = [csv_cell(x) for x in (id_, box.name, found["label"])]
            boxes = [f"{x:.2f}" for x in (*box.corners, *found["box"])]
            shares = [f"{p:.6f}" for p in row[: len(self.names)]]
            rows.append([*named, f"{iou:.6f}", *boxes, *shares])
        return rows

    def draw(self, folder: Path) -> str:
        names, iou = [label.boxes[0].name for label in self.labels], self._overlaps()
        outputs = np.concatenate(self.outputs)
        named = [self.names[i] for i in outputs[:, :-4].argmax(axis=1)]
        right = [a == b for a, b in zip(names, named, strict=True)]
        tiles = []
        for i in np.argsort(np.where(right, iou, iou - 1), kind="stable")[:WORST]:
            label = self.labels[i]
            image = self.original(self.ids[i])
            if image is not None and image.shape[:2] == (label.height, label.width):
                row = self.decode(outputs[i], label.height, label.width)
                image = draw_box(image, label.boxes[0].corners, ink=TRUE_INK)
                text = f"{self.ids[i]}\n{row['label']} {row['score']:.2f}, IoU {iou[i]:.2f}"
                tiles.append((draw_box(image, row["box"]), text))
        with lettering((*self.names, *self.ids)) as shown:
            draw_overlaps(iou, list(map(shown, names)), folder / "iou.png")
            if tiles:
                tiles = [(image, shown(text)) for image, text in tiles]
                draw_tiles(tiles, "worst answers; true boxes in green", folder / "worst.png")
        return missing_note(self.names, "iou.png")
