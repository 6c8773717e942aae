"""Semantic segmentation: each pixel is of one class; softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.data.column import Column
from tlkit.data.example import FileLabel
from tlkit.data.mask_coding import class_numbers
from tlkit.data.mask_colours import blended
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.masks import Masks, largest_class, spread
from tlkit.data.pictures.placement import STRETCH, placement
from tlkit.planning import rules
from tlkit.spec.coding import VOID, Coding
from tlkit.spec.parts import HeadSpec
from tlkit.spec.run import RunSpec
from tlkit.tasks.decoders import BATCH_NORM_FROM, DECODERS, Decoder
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.mapping import MapTask
from tlkit.tasks.mask_evaluator import Overlaps, overlap_headline

COUNTED = 64
"""Masks whose pixels tell how frequent the classes are: their bias at the start."""


class CrossEntropyAndDice(keras.losses.Loss):
    """Cross-entropy, plus one minus the Dice coefficient of the classes that an image has.

    Dice (Milletari et al. 2016, equation 3; here with plain sums in the denominator) counts a small
    class as much as a large one. A class that is absent has none: it would be 0 whatever is
    answered. Pixels of `VOID` count nowhere.
    """

    def call(self, truth, answer):
        """Return the loss of each image (n,).

        Args:
            truth: class numbers (n, height, width).
            answer: probabilities (n, height, width, classes).
        """
        ops, classes = keras.ops, answer.shape[-1]
        truth = ops.cast(truth, "int32")
        known = ops.cast(truth != VOID, answer.dtype)
        # Neither gather nor one-hot takes the number of void, wherever it runs.
        shares = ops.one_hot(ops.where(truth == VOID, 0, truth), classes, dtype=answer.dtype)
        shares = shares * known[..., None]
        logs = ops.log(ops.clip(answer, keras.config.epsilon(), 1.0))
        count = ops.maximum(ops.sum(known, axis=(1, 2)), 1.0)
        entropy = -ops.sum(shares * logs, axis=(1, 2, 3)) / count
        given = answer * known[..., None]
        both = ops.sum(shares * given, axis=(1, 2))
        own = ops.sum(shares, axis=(1, 2))
        dice = 2 * both / ops.maximum(own + ops.sum(given, axis=(1, 2)), 1.0)
        present = ops.cast(own > 0, answer.dtype)
        mean = ops.sum(dice * present, axis=1) / ops.maximum(ops.sum(present, axis=1), 1.0)
        return entropy + (1 - mean) * ops.cast(ops.sum(present, axis=1) > 0, answer.dtype)


@dataclass(frozen=True)
class Segmentation(MapTask):
    """Targets are class numbers uint8 (n, height, width), outputs probabilities (n, height, width,
    classes), both of the size that the network sees, brought to it as images are.

    Attributes:
        size: of the network's input, see `sides`.
        values: what the values in masks mean, see `Coding`.
        decoder: kind of the decoder.
        channels: of the decoder.
        batch_norm: see `Decoder`.
        resize: how images are brought to that size, see `placement`.
    """

    size: Size = 0
    values: tuple[str, ...] = ()
    decoder: str = "unet"
    channels: int = 96
    batch_norm: bool = True
    resize: str = STRETCH
    name: ClassVar[str] = "segmentation"
    labels: ClassVar[type] = MaskTargets
    metric: ClassVar[str] = "mean_iou"
    answers: ClassVar[str] = "maps"
    fields: ClassVar[tuple[str, ...]] = ("areas",)
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    keeps_views: ClassVar[bool] = True
    drawable: ClassVar[bool] = True

    @classmethod
    def of(cls, outputs: tuple[str, ...], spec: RunSpec) -> Segmentation:
        kind, channels = spec.decoder.kind, spec.decoder.channels
        large = spec.batch_size >= BATCH_NORM_FROM
        values = tuple(spec.mask_values)
        return cls(outputs, spec.size, values, kind, channels, large, spec.resize)

    @classmethod
    def copies(cls, examples: int) -> int:
        return rules.dense_copies(examples)

    def encode(self, labels: Sequence[FileLabel]) -> Masks:
        numbers = partial(class_numbers, Coding(self.values))
        return Masks(tuple(labels), self.size, _without_channel, self.resize, numbers)

    def head(self, features: dict[int, keras.KerasTensor], head: HeadSpec) -> keras.KerasTensor:
        decoder = Decoder(len(self.outputs), self.size, self.channels, self.batch_norm, head)
        return DECODERS[self.decoder](features, decoder)

    def bias(self, targets: Column) -> np.ndarray:
        every = np.unique(np.linspace(0, len(targets) - 1, min(COUNTED, len(targets))).astype(int))
        numbers = targets[every]
        counts = np.bincount(numbers[numbers != VOID], minlength=len(self.outputs)) + 1
        return np.log(counts / counts.sum())

    def loss(self) -> keras.losses.Loss:
        return CrossEntropyAndDice(name="loss")

    def keras_metric(self) -> keras.metrics.Metric:
        classes = len(self.outputs)
        return keras.metrics.MeanIoU(
            classes, self.metric, ignore_class=VOID, sparse_y_pred=False, dtype="float32"
        )

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """The mean IoU; between equals the lower loss."""
        return (round(metric, 6), -loss)

    def flip(self, outputs: Any) -> Any:
        return keras.ops.flip(outputs, axis=2)

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        # The first of the largest, as numpy's argmax; that of Keras is no operation of ONNX.
        largest = outputs >= keras.ops.max(outputs, axis=-1, keepdims=True)
        largest = keras.ops.cast(largest, "float32")
        chosen = largest * keras.ops.cast(keras.ops.cumsum(largest, axis=-1) == 1, "float32")
        if self.resize == STRETCH:
            return {self.answers: outputs, "areas": keras.ops.mean(chosen, axis=(1, 2))}
        inside = self._inside(keras.ops.cast(sizes, "int64"))[..., None]
        total = keras.ops.sum(inside, axis=(1, 2))
        return {self.answers: outputs, "areas": keras.ops.sum(chosen * inside, axis=(1, 2)) / total}

    def _inside(self, sizes: Any) -> Any:
        """Return 1 for each pixel that shows an image, 0 for bars, float32 (n, height, width).

        Args:
            sizes: int64 (n, 2), height and width of the images.
        """
        ops = keras.ops
        place = placement(sizes[:, 0], sizes[:, 1], self.size, self.resize)
        lines = [ops.arange(side, dtype="int64")[None] for side in sides(self.size)]
        pairs = (place.top, place.height), (place.left, place.width)
        rows, columns = (
            (line >= first[:, None]) & (line < (first + extent)[:, None])
            for line, (first, extent) in zip(lines, pairs, strict=True)
        )
        return ops.cast(rows[:, :, None] & columns[:, None, :], "float32")

    def decode(self, row: np.ndarray, height: int, width: int) -> dict[str, Any]:
        whole = row.ndim == 2
        chosen = row if whole else self._shown(row, height, width).argmax(axis=-1)
        counts = np.bincount(chosen.ravel(), minlength=len(self.outputs))
        shares = (counts / counts.sum()).tolist()
        return {"areas": dict(zip(self.outputs, shares, strict=True))}

    def label_map(self, row: Any, height: Any, width: Any) -> Any:
        if len(row.shape) == 2:
            return row
        return largest_class(self._shown(row, height, width), height, width)

    def spread(self, row: Any, height: int, width: int) -> Any:
        return spread(self._shown(row, height, width), height, width)

    def _shown(self, row: Any, height: Any, width: Any) -> Any:
        """Return the part of a row that shows the image; also of a tensor in a graph."""
        if self.resize == STRETCH:
            return row
        top, left, rows, columns = placement(height, width, self.size, self.resize)
        return row[top : top + rows, left : left + columns]

    def overlay(self, image: np.ndarray, row: np.ndarray) -> np.ndarray:
        return blended(image, np.asarray(self.label_map(row, *image.shape[:2])))

    def shown(self, image: np.ndarray, target: np.ndarray) -> np.ndarray:
        return blended(image, target)

    def describe(self, target: np.ndarray) -> str:
        known = target[target != VOID]
        counts = np.bincount(known, minlength=len(self.outputs)) / max(1, target.size)
        shares = [(x, n) for x, n in zip(counts.tolist(), self.outputs, strict=True) if x > 0.005]
        lines = [f"{name[:24]} {share:.2f}" for share, name in sorted(shares, reverse=True)]
        return "\n".join(lines[:4] + (["..."] if len(lines) > 4 else [])) or "void"

    def evaluator(self) -> Evaluator:
        return Overlaps(self.outputs, self.resize)

    def headline(self, metrics: dict[str, Any]) -> str:
        return overlap_headline(metrics)

    def to_json(self) -> dict[str, Any]:
        own = ("size", "values", "decoder", "channels", "batch_norm", "resize")
        return {**super().to_json(), **{name: getattr(self, name) for name in own}}


def _without_channel(mask: Any) -> Any:
    return mask[..., 0]
