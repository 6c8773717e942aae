"""Detection by regions, R-CNN's way: windows of an image are told apart from background, each by a
linear layer on what the feature maps hold in it, and moved to their objects by another.

All is solved (`tlkit.solver.regions`); nothing is fitted. The windows are a grid of a few shapes,
those of the training boxes: proposals that need no algorithm of their own. Built-in layers and
operations alone, so that plain Keras loads the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.data.box_sets import BoxSets
from tlkit.errors import DataError
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.detection import Detection
from tlkit.tasks.roi_align import position_sensitive

BINS = 3
"""Of a window, along each side (Dai et al. 2016, table 1: 3x3 gains over 1x1, 7x7 over that)."""

SHAPES, STEP = 9, 1 / 3
"""Shapes of windows, and how far one lies from the next, as a fraction of its side: of boxes of
200 images of one class all have a window with which they overlap by half, and 85% one by 0.7; with
6 shapes 81%, with 16, twice as many windows, 93%."""

MOST_WINDOWS = 4_000
"""Windows of an image; where the objects are so small that there would be more, they lie farther
apart."""

KEPT = 256
"""Windows that are looked at once more where they were moved to, by the highest of their scores."""

STAGES = 2
"""Times that a window is judged and moved, each by weights of its own (Cai & Vasconcelos 2018,
Cascade R-CNN, section 4)."""

HELD = 2**26
"""Numbers of vectors that are held at a time while solving: a quarter of a gigabyte."""

NUMBERS, PASSES = 4_000, 500
"""Of a vector (MobileNetV2: 4,032), and over all vectors that L-BFGS makes, for the estimate."""

LEAST_SIDE = 1e-3
"""Of an answered box, as a fraction of the input's side."""

FARTHEST = 2.0
"""Largest logarithm by which a side is changed."""


@dataclass(frozen=True)
class RegionDetection(Detection):
    """Outputs as those of `Detection`, of the `KEPT` best windows in the place of cells.

    Attributes:
        shapes: width and height of windows, as fractions of the input; the whole of it until `fit`.
    """

    kind: str = "rcnn"
    shapes: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    solver: ClassVar[str] = "regions"

    def fit(self, targets: BoxSets) -> RegionDetection:
        """Return this task with the shapes of the training boxes.

        Raises:
            DataError: there is no box.
        """
        rows = targets[:].reshape(-1, targets[:].shape[-1])
        boxes = rows[rows[:, 5] > 0, 1:5]
        if not len(boxes):
            raise DataError(
                "the training data have no box from which the shapes of windows could be taken. "
                "Allowed: at least one. Received: none"
            )
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], LEAST_SIDE)
        return replace(self, shapes=shapes_of(sides))

    @classmethod
    def solving(cls, views: int, shape: tuple[int, ...]) -> tuple[int, int]:
        """Count for each stage the products of vectors for the classes and, of about half of them,
        for the boxes, and five Cholesky factors (Golub & Van Loan 2013, section 4.2), in double
        precision and on one thread, hence four times."""
        rows = min(64 * views, HELD // NUMBERS)
        products = STAGES * (3 * rows * NUMBERS**2 // 4 + 4 * 5 * NUMBERS**3 // 3)
        return products, PASSES * rows * NUMBERS

    @property
    def windows(self) -> np.ndarray:
        """The windows float32 (windows, 4): x1, y1, x2, y2 as fractions of the input."""
        return windows(self.shapes)

    def head(self, features: dict[int, keras.KerasTensor], head: HeadSpec) -> keras.KerasTensor:
        first = next(iter(features.values()))
        nothing = keras.ops.zeros_like(first[:, 0, :1, :1])  # (batch, 1, 1): for each image
        boxes = keras.ops.cast(nothing, "float32") + self.windows[None]
        for stage in range(1, STAGES + 1):
            if stage > 1:
                boxes = best_of(boxes, KEPT)
            boxes = self._judged(features, boxes[..., :4], stage)
        return boxes

    def _judged(
        self, features: dict[int, keras.KerasTensor], boxes: Any, stage: int
    ) -> keras.KerasTensor:
        """Return windows moved, and a probability of each class: (batch, windows, 4 + classes)."""
        ops, classes = keras.ops, len(self.outputs)
        outputs, total = classes + 1 + 4 * classes, 0.0
        for stride, x in features.items():
            convolution = keras.layers.Conv2D(
                BINS**2 * outputs, 1, kernel_initializer="zeros", dtype="float32",
                name=layer_name(stage, stride),
            )  # fmt: skip
            total = total + position_sensitive(convolution(x), boxes, BINS)
        shares = ops.softmax(total[..., : classes + 1])[..., :classes]
        moves = ops.reshape(total[..., classes + 1 :], (-1, boxes.shape[1], classes, 4))
        chosen = ops.one_hot(ops.argmax(shares, axis=-1), classes, dtype="float32")
        boxes = moved(boxes, ops.sum(moves * chosen[..., None], axis=2), ops)
        name = stage_name(stage)
        return keras.layers.Concatenate(dtype="float32", name=name)([boxes, shares])

    def bias(self, targets: BoxSets) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "shapes": [list(shape) for shape in self.shapes]}


def layer_name(stage: int, stride: int) -> str:
    """Return the name of the layer that judges at a stage what the map at a stride holds."""
    return f"head_regions_{stage}_{stride}"


def stage_name(stage: int) -> str:
    """Return the name of the layer behind which are the windows that a stage has judged."""
    return f"head_judged_{stage}"


def layer_weights(weights: np.ndarray, channels: Sequence[int]) -> list[list[np.ndarray]]:
    """Return kernel and bias of the layer of each level, of weights on a window's vector.

    Args:
        weights: (numbers + 1, outputs), bias last; numbers are those of each level in turn, by
            rows and columns of bins.
        channels: of the maps.
    """
    found, at, outputs = [], 0, weights.shape[1]
    for count in channels:
        own = weights[at : at + BINS**2 * count].reshape(BINS**2, count, outputs)
        kernel = own.transpose(1, 0, 2).reshape(1, 1, count, -1)
        # Bins are summed: each has its share of the bias.
        bias = np.tile(weights[-1] / BINS**2, BINS**2) * (at == 0)
        found.append([kernel, bias])
        at += BINS**2 * count
    return found


def best_of(answers: Any, most: int) -> Any:
    """Return those of answers (batch, windows, 4 + classes) with the highest scores, best first."""
    ops = keras.ops
    count = min(most, answers.shape[1])
    _, order = ops.top_k(ops.max(answers[..., 4:], axis=-1), count)
    return ops.take_along_axis(answers, order[..., None], axis=1)


def moved(boxes: Any, moves: Any, xp: Any) -> Any:
    """Return boxes (..., 4) moved by their own sides (Girshick et al. 2014, equations 1 to 4), cut
    to the input.

    Args:
        moves: dx, dy, dlog w, dlog h (..., 4).
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    sides = high - low
    centre = (low + high) / 2 + moves[..., :2] * sides
    half = sides * xp.exp(xp.clip(moves[..., 2:], -FARTHEST, FARTHEST)) / 2
    low = xp.clip(centre - half, 0.0, 1.0 - LEAST_SIDE)
    high = xp.maximum(xp.clip(centre + half, 0.0, 1.0), low + LEAST_SIDE)
    return xp.concatenate([low, high], axis=-1)


def moves_to(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return what `moved` takes to bring boxes (n, 4) to others (Girshick et al. 2014, appendix C,
    equations 6 to 9)."""
    sides, wanted = (np.maximum(part[:, 2:] - part[:, :2], LEAST_SIDE) for part in (boxes, truth))
    apart = (truth[:, :2] + truth[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    return np.concatenate([apart / sides, np.log(wanted / sides)], axis=1)


def shapes_of(sides: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return up to `SHAPES` shapes about which those of boxes lie (n, 2), by k-means on their
    logarithms (Redmon & Farhadi 2017, YOLO9000, section 2: dimension clusters)."""
    from sklearn.cluster import KMeans

    logs = np.log(sides.astype(np.float64))
    count = min(SHAPES, len(np.unique(logs.round(6), axis=0)))
    found = np.exp(KMeans(count, n_init=4, random_state=0).fit(logs).cluster_centers_)
    return tuple(sorted(tuple(round(float(x), 4) for x in shape) for shape in found))


def windows(shapes: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return windows of these shapes float32 (windows, 4), `STEP` apart or, where that would give
    more than `MOST_WINDOWS`, by as little more as it takes."""
    step = STEP
    while sum(_count(w, step) * _count(h, step) for w, h in shapes) > MOST_WINDOWS:
        step *= 1.1
    rows = []
    for width, height in shapes:
        x, y = (_starts(side, step) for side in (width, height))
        x, y = (part.ravel() for part in np.meshgrid(x, y))
        rows.append(np.stack([x, y, x + width, y + height], axis=1))
    return np.concatenate(rows).astype(np.float32)


def _count(side: float, step: float) -> int:
    return int(np.ceil((1 - side) / (step * side) - 1e-6)) + 1


def _starts(side: float, step: float) -> np.ndarray:
    count = _count(side, step)
    return np.linspace(0, 1 - side, count) if count > 1 else np.array([(1 - side) / 2])
