"""Detection: all objects in an image, a box and a class for each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.data.annotations import Annotations
from tlkit.data.box_sets import ROW, BoxSets
from tlkit.data.box_targets import DetectionTargets
from tlkit.data.pictures.placement import STRETCH
from tlkit.planning import rules
from tlkit.spec.parts import HeadSpec
from tlkit.spec.run import RunSpec
from tlkit.tasks.assignment import Detected
from tlkit.tasks.box_frame import Frame
from tlkit.tasks.decisions import Decision, common_threshold
from tlkit.tasks.decoders import BATCH_NORM_FROM
from tlkit.tasks.detection_ap import ap50
from tlkit.tasks.detection_drawing import draw_boxes
from tlkit.tasks.detection_evaluator import DetectedObjects
from tlkit.tasks.detection_metrics import chosen_thresholds, detection_headline
from tlkit.tasks.detection_reports import detection_figures, detection_parts
from tlkit.tasks.detections import Found, TrueObjects
from tlkit.tasks.detector import PRIOR, STRIDES, Detector, one_stage, shape_at
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.finding import FindingTask
from tlkit.tasks.linear import shortened
from tlkit.tasks.shown import Answers, Figure, Shown
from tlkit.tasks.suppression import suppressed

MOST_OVERLAP = 0.6
"""Intersection over union up to which two boxes of one class are two objects."""

SIZES, WANTED = (320, 416, 512, 640), 0.95
"""Sizes of the input in pixels, of which the first is taken at which this share of the objects is
as wide and as high as the finest stride. More pixels are not better for large objects, and cost by
their square."""


@dataclass(frozen=True)
class Detection(FindingTask):
    """Targets are rows of `BoxSets` (n, objects, 7), outputs (n, cells, 4 + classes): x1, y1, x2,
    y2 as fractions of what the model sees, and a probability for each class, of every cell.

    Attributes:
        size, resize: of the network's input, and how images are brought to it, see `placement`.
        kind, channels: of the detector.
        batch_norm: see `Decoder`.
        thresholds: the score from which on a box is an answer, for each class; empty: 0.5.
    """

    size: Size = 0
    resize: str = STRETCH
    kind: str = "one-stage"
    channels: int = 96
    batch_norm: bool = True
    thresholds: tuple[float, ...] = ()
    name: ClassVar[str] = "detection"
    labels: ClassVar[type] = DetectionTargets
    metric: ClassVar[str] = "ap50"
    answers: ClassVar[str] = "outputs"
    fields: ClassVar[tuple[str, ...]] = ("detections",)
    strides: ClassVar[tuple[int, ...]] = STRIDES
    keeps_views: ClassVar[bool] = True
    drawable: ClassVar[bool] = True

    @classmethod
    def of(cls, outputs: tuple[str, ...], spec: RunSpec) -> Detection:
        own, large = spec.detector, spec.batch_size >= BATCH_NORM_FROM
        return cls(outputs, spec.size, spec.resize, own.kind, own.channels, large)

    @classmethod
    def copies(cls, examples: int) -> int:
        return rules.dense_copies(examples)

    @property
    def numbers(self) -> int:
        return len(self.outputs) + 4

    @property
    def frame(self) -> Frame:
        """How boxes of the network's input become such of an image."""
        return Frame(self.size, self.resize)

    @classmethod
    def input_size(
        cls, labels: Sequence[Annotations], resize: str, asked: Size | None = None
    ) -> tuple[Size, str]:
        """Return the smallest of `SIZES` at which `WANTED` of the objects are wide and high enough
        for a cell of the finest map, and how many are: fewer are hardly found."""
        whole = np.array([(x.width, x.height) for x in labels for _ in x.boxes]).reshape(-1, 2)
        extents = np.array([box.extent for x in labels for box in x.boxes]).reshape(-1, 2)
        if not len(extents):
            return asked or SIZES[0], "the training part has no objects to choose it by"

        def share(size: Size) -> float:
            scales = np.array(sides(size)[::-1]) / whole
            if resize != STRETCH:
                scales = scales.min(axis=1, keepdims=True)
            return float((extents * scales >= STRIDES[0]).all(axis=1).mean())

        chosen = asked or next((size for size in SIZES if share(size) >= WANTED), SIZES[-1])
        found = share(chosen)
        rest = "" if found == 1 else "; smaller ones are hardly found"
        return chosen, f"{found:.1%} of the objects span {STRIDES[0]} px there or more{rest}"

    def encode(self, labels: Sequence[Annotations]) -> BoxSets:
        index = {label: i for i, label in enumerate(self.outputs)}
        sizes = np.array([(label.height, label.width) for label in labels], np.int64).reshape(-1, 2)
        most = max((len(label.boxes) for label in labels), default=0)
        rows = np.zeros((len(labels), max(1, most), ROW), np.float64)
        for row, label in zip(rows, labels, strict=True):
            for place, box in zip(row, label.boxes, strict=False):
                place[:] = (index[box.name], *box.corners, 1, not box.aside)
        rows[:, :, 1:5] /= np.maximum(np.tile(sizes[:, ::-1], 2), 1)[:, None]
        rows[:, :, 1:5] = self.frame.seen(rows[:, :, 1:5], sizes) * rows[:, :, 5:6]
        return BoxSets(rows.astype(np.float32), sizes.astype(np.int32))

    def head(self, features: dict[int, keras.KerasTensor], head: HeadSpec) -> keras.KerasTensor:
        made = Detector(len(self.outputs), self.size, self.channels, self.batch_norm, head)
        return one_stage(features, made)

    def bias(self, targets: BoxSets) -> np.ndarray:
        return np.full(len(self.outputs), math.log(PRIOR / (1 - PRIOR)))

    def loss(self) -> keras.losses.Loss:
        return Detected(self.size, name="loss")

    def whole_metric(self, answered: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        true, found = [], []
        for targets, outputs in answered:  # the outputs of all images would not fit in memory
            true += self._true(targets)
            found += self._found(outputs)
        return ap50(true, found, len(self.outputs)) or 0.0

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """The average precision at IoU 0.5; between equals the lower loss."""
        return (round(metric, 6), -loss)

    def tuned(self, answered: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Detection:
        """Return this task with the score of each class that has the highest F1."""
        targets, outputs = answered()
        every = self._true(targets), self._found(outputs)
        return replace(self, thresholds=chosen_thresholds(*every, len(self.outputs)))

    def decided(self, asked: Decision, found: Any) -> Detection:
        """A number is the least score of all classes in place of those chosen by F1."""
        if asked.threshold is None or len(asked.given()) > 1:
            return super().decided(replace(asked, threshold=None), found)
        threshold = common_threshold(asked.threshold, "class", "classes")
        return replace(self, thresholds=(threshold,) * len(self.outputs))

    def _true(self, targets: np.ndarray) -> list[TrueObjects]:
        """Return the objects of rows of targets, in pixels of the network's input."""
        height, width = sides(self.size)
        every = []
        for row in targets:
            own = row[row[:, 5] > 0]
            named, aside = own[:, 0].astype(np.int64), own[:, 6] == 0
            every.append(TrueObjects(own[:, 1:5] * self.frame.whole, named, aside, height, width))
        return every

    def _found(self, outputs: np.ndarray) -> list[Found]:
        """Return what is found, in pixels of the network's input."""
        boxes = np.clip(outputs[:, :, :4], 0.0, 1.0) * self.frame.whole
        pairs = zip(boxes, outputs[:, :, 4:], strict=True)
        return [suppressed(own, shares, self.most_overlap) for own, shares in pairs]

    def candidates(self, outputs: Any, sizes: Any, xp: Any = keras.ops) -> tuple[Any, Any]:
        boxes = self.frame.of_image(xp.clip(outputs[..., :4], 0.0, 1.0), sizes, xp)
        whole = xp.concatenate([sizes[:, ::-1]] * 2, axis=1)[:, None]
        whole = whole if xp is np else xp.cast(whole, "float32")
        return boxes * whole, outputs[..., 4:]

    @property
    def most_overlap(self) -> float:
        return MOST_OVERLAP

    @property
    def least_scores(self) -> tuple[float, ...]:
        return self.thresholds or (0.5,) * len(self.outputs)

    def flip(self, outputs: Any) -> Any:
        """Mirror boxes, and the cells that answer with them."""
        ops = keras.ops
        left, top, right, bottom = (outputs[..., i : i + 1] for i in range(4))
        mirrored = ops.concatenate([1 - right, top, 1 - left, bottom, outputs[..., 4:]], axis=-1)
        levels, start = [], 0
        for height, width in (shape_at(self.size, stride) for stride in STRIDES):
            own = mirrored[:, start : start + height * width]
            start += height * width
            form = ops.shape(own)
            grid = ops.reshape(own, (-1, height, width, form[-1]))
            levels.append(ops.reshape(ops.flip(grid, axis=2), (-1, height * width, form[-1])))
        return ops.concatenate(levels, axis=1)

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        return {self.answers: outputs}

    def decode(self, row: np.ndarray, height: int, width: int) -> dict[str, Any]:
        rows = zip(*self.accepted(row, height, width), strict=True)
        found = [
            {
                "label": self.outputs[number],
                "score": round(float(score), 6),
                "box": [round(float(x), 2) for x in box],
            }
            for box, score, number in rows
        ]
        return {"detections": found}

    def describe(self, target: np.ndarray) -> str:
        named = target[target[:, 5] > 0, 0].astype(int)
        counts = Counter(self.outputs[i] for i in named.tolist())
        return "\n".join(f"{shortened(name)}: {n}" for name, n in counts.items()) or "nothing"

    def shown(self, image: np.ndarray, target: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        own = target[target[:, 5] > 0]
        boxes = own[:, 1:5] * (width, height, width, height)
        return draw_boxes(image, boxes, own[:, 0].astype(int), self.outputs)

    def overlay(self, image: np.ndarray, row: np.ndarray) -> np.ndarray:
        found = self.accepted(row, *image.shape[:2])
        return draw_boxes(image, found.boxes, found.classes, self.outputs, found.scores)

    def evaluator(self) -> Evaluator:
        return DetectedObjects(self.outputs, self.found, self.thresholds)

    def figures(self, metrics: dict[str, Any], answers: Answers | None) -> list[Figure]:
        return detection_figures(metrics)

    def parts(self, metrics: dict[str, Any], answers: Answers | None) -> list[Shown]:
        return detection_parts(metrics, self.outputs)

    def headline(self, metrics: dict[str, Any]) -> str:
        return detection_headline(metrics)

    def to_json(self) -> dict[str, Any]:
        own = ("size", "resize", "kind", "channels", "batch_norm", "thresholds")
        return {**super().to_json(), **{name: getattr(self, name) for name in own}}
