"""A toy task that answers with a mask, whole: labels, task, evaluator, reader.

This is all that a new task takes: a file like this one in `tlkit/tasks`, a row in
`registry.TASKS`, one in `task_options.TASK_OPTIONS`, and a reader for each form of data in
`readers.open.READERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tlkit.data.example import Example, FileLabel, Listing
from tlkit.data.masks import Masks
from tlkit.data.readers.open import check_folder, image_files
from tlkit.data.targets import Targets
from tlkit.errors import DataError
from tlkit.spec.parts import HeadSpec
from tlkit.spec.run import RunSpec
from tlkit.tasks.drawing import save_figure
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.task import HEAD_INPUT, Task


class MaskTargets(Targets):
    """A mask in a file for each image: 0 is ground, all else is the shape."""

    task: ClassVar[str] = "toy"
    family: ClassVar[str] = "masks"
    kind: ClassVar[type] = FileLabel
    images: ClassVar[int] = 3

    def from_row(self, row: dict[str, str], where: str) -> FileLabel:
        raise NotImplementedError  # no reader of tables asks

    def from_array(self, value: Any, where: str) -> FileLabel:
        raise NotImplementedError  # nor of arrays

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        return ("shape",)

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        pass

    def strata(self, examples: Sequence[Any]) -> list[str]:
        return [""] * len(examples)


@dataclass(frozen=True)
class Toy(Task):
    """Outputs are the probability of the shape in each pixel (n, size, size, 1)."""

    size: int = 0
    name: ClassVar[str] = "toy"
    labels: ClassVar[type] = MaskTargets
    answers: ClassVar[str] = "masks"
    fields: ClassVar[tuple[str, ...]] = ("areas",)

    @classmethod
    def of(cls, outputs: tuple[str, ...], spec: RunSpec) -> Toy:
        return cls(outputs, spec.size)

    def encode(self, labels: Sequence[FileLabel]) -> Masks:
        return Masks(tuple(labels), self.size, lambda mask: tf.cast(mask > 0, tf.float32))

    def head(self, features: keras.KerasTensor, head: HeadSpec) -> keras.KerasTensor:
        x = keras.layers.Identity(name=HEAD_INPUT)(features)
        x = keras.layers.Conv2D(1, 1, dtype="float32", name="predictions")(x)
        up = keras.layers.Resizing(self.size, self.size, dtype="float32", name="head_resize")
        return keras.layers.Activation("sigmoid", dtype="float32", name="head_sigmoid")(up(x))

    def loss(self) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(name="loss")

    def flip(self, outputs: Any) -> Any:
        return keras.ops.flip(outputs, axis=2)

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        return {"masks": outputs, "areas": keras.ops.mean(outputs > 0.5, axis=(1, 2))}

    def decode(self, row: np.ndarray, height: int, width: int) -> dict[str, Any]:
        return {"areas": {self.outputs[0]: float((row > 0.5).mean())}}

    def evaluator(self) -> Evaluator:
        return Overlap()

    def headline(self, metrics: dict[str, Any]) -> str:
        return f"IoU {metrics['iou']:.3f}, on {metrics['examples']:,}"

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "size": self.size}


@dataclass
class Overlap(Evaluator):
    """Intersection over union of all pixels; of each image two counts are held, no mask."""

    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def update(
        self, ids: Sequence[str], labels: Sequence[Any], targets: np.ndarray, outputs: np.ndarray
    ) -> None:
        for id_, truth, given in zip(ids, targets > 0.5, outputs > 0.5, strict=True):
            self.counts[id_] = int((truth & given).sum()), int((truth | given).sum())

    def result(self) -> dict[str, Any]:
        both, either = np.sum(list(self.counts.values()), axis=0)
        return {"examples": len(self.counts), "iou": float(both / max(1, either))}

    def rows(self) -> list[list[str]]:
        rows = [[id_, f"{b / max(1, e):.6f}"] for id_, (b, e) in self.counts.items()]
        return [["id", "iou"], *rows]

    def draw(self, folder: Path) -> str:
        figure = Figure()
        figure.subplots().hist([b / max(1, e) for b, e in self.counts.values()])
        save_figure(figure, folder / "iou.png")
        return ""


def read_masks(data: str | Path, targets: MaskTargets) -> Listing:
    """List a folder with the folders `images` and `masks`, whose files have the same names."""
    root = Path(data)
    check_folder(root)
    images = image_files(root / "images")
    masks = {path.stem: path for path in image_files(root / "masks")}
    alone = [path.name for path in images if path.stem not in masks]
    if alone or not images:
        raise DataError(
            f"data {root}: images without a mask. Received: {', '.join(alone) or 'none'}"
        )
    examples = [Example(p.name, FileLabel(masks[p.stem]), path=p) for p in images]
    return Listing(root.name, {"train": examples})
