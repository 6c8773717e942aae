"""From feature maps at several strides to boxes with their classes: the head of the one-stage
detector. Built-in layers and operations alone, so that plain Keras loads it.

It has no anchors: each cell of each map answers with the distances from its centre to the four
edges of a box, and with a probability of each class (Tian et al. 2019, FCOS, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.tasks.decoders import Decoder, Levels, enlarged
from tlkit.tasks.pooled import PREDICTIONS, weights_of
from tlkit.tasks.task import BOX

STRIDES = (8, 16, 32)
"""Of the maps that answer (P3 to P5 in Tian et al. 2019, section 3.2; their P6 and P7 are for
images of 800 px)."""

FIRST_REACH = 2.5
"""Distance from a cell's centre to each edge of its box at the start, in strides: boxes of 40, 80
and 160 px, which overlap most with the objects that their level suits. So the assignment by overlap
begins as one by anchors would."""

PRIOR = 0.01
"""Probability of each class at the start: nearly all cells show nothing (Lin et al. 2017, focal
loss, section 4.1)."""

FARTHEST = 6.0
"""Largest logarithm of a distance in strides that is answered: e^6 strides of 8 leave any image."""

CONVOLUTIONS = 2
"""In each branch of the head."""


@dataclass(frozen=True)
class Detector(Decoder):
    """What a detector is made of, see `Decoder`; `size` is of the model's input."""

    def answer(self, levels: Levels) -> keras.KerasTensor:
        """Return for each cell, from the finest level on and row by row, x1, y1, x2, y2 as
        fractions of the input and a probability for each class: float32 (batch, cells, 4 +
        classes).

        Convolutions are the same at all levels, their normalisation is each level's own (Tan et
        al. 2020, EfficientDet, section 4.2).
        """
        branches = {name: self._shared(name) for name in ("class", "box")}
        named = keras.layers.Conv2D(
            self.classes, 1, dtype="float32", name=PREDICTIONS, **weights_of(self.head)
        )
        reach = keras.layers.Conv2D(
            4, 1, bias_initializer=keras.initializers.Constant(math.log(FIRST_REACH)),
            dtype="float32", name=BOX, **weights_of(self.head),
        )  # fmt: skip
        drop = keras.layers.Dropout(self.head.dropout, name="head_dropout")
        answers = []
        for stride, x in levels.items():
            classes = self._branch(x, branches["class"], f"head_class_{stride}")
            if self.head.dropout:
                classes = drop(classes)
            shares = keras.ops.sigmoid(named(classes))
            edges = reach(self._branch(x, branches["box"], f"head_box_{stride}"))
            boxes = self._boxes(edges, stride)
            both = keras.ops.concatenate([boxes, shares], axis=-1)
            answers.append(keras.ops.reshape(both, (-1, x.shape[1] * x.shape[2], both.shape[-1])))
        return keras.layers.Concatenate(axis=1, dtype="float32", name="head_outputs")(answers)

    def _shared(self, name: str) -> list[keras.layers.Layer]:
        return [self.separable(f"head_{name}_{i}") for i in range(1, CONVOLUTIONS + 1)]

    def _branch(
        self, x: keras.KerasTensor, layers: Sequence[keras.layers.Layer], name: str
    ) -> keras.KerasTensor:
        for i, layer in enumerate(layers, start=1):
            x = self.rectified(layer(x), f"{name}_{i}")
        return x

    def _boxes(self, x: keras.KerasTensor, stride: int) -> keras.KerasTensor:
        """Return corners (batch, height, width, 4), as fractions, of logarithms of distances.

        Centres of cells are counted off ones: a constant would be stored number by number.
        """
        ops, (height, width) = keras.ops, sides(self.size)
        reach = ops.exp(ops.clip(x, -FARTHEST, FARTHEST)) * stride
        ones = ops.ones_like(x[..., :1])
        across, down = ((ops.cumsum(ones, axis=axis) - 0.5) * stride for axis in (2, 1))
        left, top, right, bottom = (reach[..., i : i + 1] for i in range(4))
        corners = [(across - left) / width, (down - top) / height]
        corners += [(across + right) / width, (down + bottom) / height]
        return ops.concatenate(corners, axis=-1)


def one_stage(levels: Levels, detector: Detector) -> keras.KerasTensor:
    """Join the levels in both directions, then answer at each (Liu et al. 2018, PANet, section
    3.1).

    A level that the backbone lacks, or has in another size than the input by the stride, is made of
    the next one by stretching, so that cells are where `cells` says.
    """
    there, taps = sorted(levels), {}
    for stride in STRIDES:
        nearest = min(there, key=lambda own: abs(math.log2(own / stride)))
        x = detector.pointwise(levels[nearest], detector.channels, f"head_tap_{stride}")
        taps[stride] = enlarged(x, shape_at(detector.size, stride), f"head_fit_{stride}")
    down, x = {}, None
    for stride in reversed(STRIDES):
        own = taps[stride]
        if x is not None:
            x = enlarged(x, own.shape[1:3], f"head_up_{stride}")
            own = keras.layers.Add(name=f"head_join_{stride}")([x, own])
        own = keras.layers.ReLU(name=f"head_tap_{stride}_relu")(own)
        x = down[stride] = detector.refined(own, f"head_refine_{stride}")
    up, x = {}, None
    for stride in STRIDES:
        own = down[stride]
        if x is not None:
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"head_down_{stride}")(x)
            own = keras.layers.Add(name=f"head_meet_{stride}")([x, own])
            own = detector.refined(own, f"head_back_{stride}")
        x = up[stride] = own
    return detector.answer(up)


def shape_at(size: Size, stride: int) -> tuple[int, int]:
    """Return height and width of the map at a stride."""
    height, width = sides(size)
    return math.ceil(height / stride), math.ceil(width / stride)


def cells(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre of each cell float32 (cells, 2), x and y in pixels of the input, and its
    stride (cells,), in the order of the answers."""
    centres, strides = [], []
    for stride in STRIDES:
        rows, columns = (np.arange(n) + 0.5 for n in shape_at(size, stride))
        y, x = np.meshgrid(rows, columns, indexing="ij")
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1) * stride)
        strides.append(np.full(x.size, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)
