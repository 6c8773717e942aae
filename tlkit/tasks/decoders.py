"""From feature maps at several strides to a map of classes of the input's size: the heads of dense
tasks. Built-in layers and operations alone, so that plain Keras loads them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from tlkit.backbones.sides import Size, sides
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.pooled import PREDICTIONS, weights_of

GROUPS = 8
"""Channels are normalised in up to so many groups where batches are small (Wu & He 2018, figure 5:
any number from 2 to 32 is within half a point)."""

BATCH_NORM_FROM = 8
"""Images a batch from which the statistics of a batch serve (Wu & He 2018, figure 1)."""

Levels = dict[int, keras.KerasTensor]
"""Feature maps (batch, height, width, channels) by stride, the smallest first."""


@dataclass(frozen=True)
class Decoder:
    """What a decoder is made of.

    Attributes:
        classes: channels of the answer.
        size: of the model's input, and of the answer, see `sides`.
        channels: inside.
        batch_norm: normalise by the statistics of the batch; else by groups of channels.
        head: initialiser, penalty and dropout.
    """

    classes: int
    size: Size
    channels: int
    batch_norm: bool
    head: HeadSpec

    def answer(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Return probabilities float32 (batch, size, size, classes)."""
        if self.head.dropout:
            x = keras.layers.Dropout(self.head.dropout, name="head_dropout")(x)
        how = {"dtype": "float32", "name": PREDICTIONS, **weights_of(self.head)}
        x = keras.layers.Conv2D(self.classes, 1, **how)(x)
        x = enlarged(x, sides(self.size), "head_enlarge")
        return keras.layers.Softmax(dtype="float32", name="head_softmax")(x)

    def pointwise(self, x: keras.KerasTensor, channels: int, name: str) -> keras.KerasTensor:
        """Return a 1x1 convolution with its normalisation."""
        convolution = keras.layers.Conv2D(
            channels, 1, use_bias=False, name=name, **weights_of(self.head)
        )
        return self._normalised(convolution(x), name)

    def refined(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Return two separable 3x3 convolutions, each normalised and rectified."""
        for i in (1, 2):
            x = self.rectified(self.separable(f"{name}_{i}")(x), f"{name}_{i}")
        return x

    def separable(self, name: str) -> keras.layers.Layer:
        """Return a separable 3x3 convolution, which has no bias: normalisation follows."""
        start = self.head.initializer
        return keras.layers.SeparableConv2D(
            self.channels,
            3,
            padding="same",
            use_bias=False,
            depthwise_initializer=start,
            pointwise_initializer=start,
            pointwise_regularizer=weights_of(self.head)["kernel_regularizer"],
            name=name,
        )

    def rectified(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Return what a convolution of this name gives, normalised and rectified."""
        return keras.layers.ReLU(name=f"{name}_relu")(self._normalised(x, name))

    def _normalised(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self.batch_norm:
            return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        groups = math.gcd(GROUPS, x.shape[-1])
        return keras.layers.GroupNormalization(groups, name=f"{name}_gn")(x)


def unet(levels: Levels, decoder: Decoder) -> keras.KerasTensor:
    """Join all levels, from the coarsest to the finest (Ronneberger et al. 2015, section 2; by sums
    of maps with equally many channels as in Lin et al. 2017, section 3)."""
    x = None
    for stride in sorted(levels, reverse=True):
        own = decoder.pointwise(levels[stride], decoder.channels, f"head_tap_{stride}")
        if x is not None:
            x = enlarged(x, own.shape[1:3], f"head_up_{stride}")
            own = keras.layers.Add(name=f"head_join_{stride}")([x, own])
        own = keras.layers.ReLU(name=f"head_tap_{stride}_relu")(own)
        x = decoder.refined(own, f"head_refine_{stride}")
    return decoder.answer(x)


def deconv(levels: Levels, decoder: Decoder) -> keras.KerasTensor:
    """Go back from the coarsest level by unpooling (Noh et al. 2015, section 3.1).

    Where the maximum of each 2x2 window was, there its value is put back. In a network that
    pools, that is where the pooling found it; strided convolutions find none, and the maximum of
    the level's own windows is taken.
    """
    strides = sorted(levels, reverse=True)
    first = decoder.pointwise(levels[strides[0]], decoder.channels, f"head_tap_{strides[0]}")
    x = decoder.refined(first, f"head_refine_{strides[0]}")
    for stride in strides[1:]:
        level = levels[stride]
        x = decoder.pointwise(x, level.shape[-1], f"head_mirror_{stride}")
        x = keras.layers.ReLU(name=f"head_mirror_{stride}_relu")(x)
        x = decoder.refined(unpooled(x, level), f"head_refine_{stride}")
    return decoder.answer(x)


DECODERS: dict[str, Callable[[Levels, Decoder], keras.KerasTensor]] = {
    "unet": unet,
    "deconv": deconv,
}
"""By `decoder.kind`."""


def unpooled(x: Any, where: Any) -> Any:
    """Put each value of `x` where the maximum of its 2x2 window of `where` is; zeros elsewhere.

    Of equal values the first counts, so that no window gets two.

    Args:
        x: (batch, ceil(height / 2), ceil(width / 2), channels).
        where: (batch, height, width, channels).

    Returns:
        (batch, height, width, channels).
    """
    ops = keras.ops
    (_, height, width, channels), (_, rows, columns, _) = where.shape, x.shape
    margins = [[0, 0], [0, 2 * rows - height], [0, 2 * columns - width], [0, 0]]
    if margins[1][1] or margins[2][1]:
        where = ops.pad(where, margins, constant_values=-1e9)
    windows = ops.reshape(where, (-1, rows, 2, columns, 2, channels))
    windows = ops.reshape(
        ops.transpose(windows, (0, 1, 3, 5, 2, 4)), (-1, rows, columns, channels, 4)
    )
    chosen = ops.one_hot(ops.argmax(windows, axis=-1), 4, dtype=x.dtype)
    spread = ops.reshape(chosen * ops.expand_dims(x, -1), (-1, rows, columns, channels, 2, 2))
    spread = ops.reshape(
        ops.transpose(spread, (0, 1, 4, 2, 5, 3)), (-1, 2 * rows, 2 * columns, channels)
    )
    return spread[:, :height, :width]


def enlarged(x: keras.KerasTensor, size: tuple[int, int], name: str) -> keras.KerasTensor:
    """Return a map stretched to (height, width), bilinear; whatever the sizes, odd ones too."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return keras.layers.Resizing(*size, interpolation="bilinear", name=name)(x)
