"""Where augmentation moves points to: matrices for what it does to the pixels of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import Size, sides
from tlkit.data.pictures.placement import placement

Move = Callable[[Size, tf.Tensor], tf.Tensor]
"""From the size of an image and a seed (two integers) to a matrix (3, 3) that takes points (x, y,
1), as fractions of width and height, to where they are moved."""

Draw = Callable[[Any, Size, tf.Tensor], dict[str, tf.Tensor]]
"""From a Keras layer, that size and a seed to what the layer draws."""

IDENTITY = np.eye(3, dtype=np.float32)


def cropped(begin: tf.Tensor, extent: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return the matrix of cutting out a rectangle and stretching it to a square.

    Args:
        begin, extent: of the rectangle: row and column, height and width in pixels.
        height, width: of the image.
    """
    top, left = tf.cast(begin[0], tf.float32), tf.cast(begin[1], tf.float32)
    rows, columns = tf.cast(extent[0], tf.float32), tf.cast(extent[1], tf.float32)
    scale = tf.cast(width, tf.float32) / columns, tf.cast(height, tf.float32) / rows
    return _affine((scale[0], 0.0, -left / columns), (0.0, scale[1], -top / rows))


def set_in(inner: tuple, top: tf.Tensor, left: tf.Tensor, size: Size) -> tf.Tensor:
    """Return the matrix of setting a smaller image of `inner` (height, width) into `size`."""
    rows, columns = sides(size)
    height, top = (tf.cast(x, tf.float32) / rows for x in (inner[0], top))
    width, left = (tf.cast(x, tf.float32) / columns for x in (inner[1], left))
    return _affine((width, 0.0, left), (0.0, height, top))


def placed(height: tf.Tensor, width: tf.Tensor, size: Any, fit: str) -> tf.Tensor:
    """Return the matrix of bringing an image to a size as `decode.resize` does.

    Args:
        height, width: of the image in pixels.
    """
    rows, columns = (tf.cast(x, tf.int64) for x in sides(size))
    place = placement(tf.cast(height, tf.int64), tf.cast(width, tf.int64), (rows, columns), fit)
    top, own_rows = (tf.cast(x, tf.float32) / tf.cast(rows, tf.float32) for x in place[::2])
    left, own_columns = (tf.cast(x, tf.float32) / tf.cast(columns, tf.float32) for x in place[1::2])
    return _affine((own_columns, 0.0, left), (0.0, own_rows, top))


def mirrored(seed: tf.Tensor) -> tf.Tensor:
    """Return the matrix of `tf.image.stateless_random_flip_left_right`, which draws one number."""
    flipped = tf.constant([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return tf.where(tf.random.stateless_uniform((), seed) < 0.5, flipped, tf.constant(IDENTITY))


def moved_by(layer: Any, draw: Draw) -> Move:
    """Return where a Keras layer of rotation, translation or shear moves points to.

    Each of them tells of a pixel of its result which pixel of the image it shows; points go the
    other way.
    """

    def move(size: Size, seed: tf.Tensor) -> tf.Tensor:
        drawn = draw(layer, size, seed)
        if "rotation_matrix" in drawn:
            a, b, c, d, e, f = tf.unstack(tf.cast(drawn["rotation_matrix"][0, :6], tf.float32))
        elif "translations" in drawn:
            right, down = tf.unstack(tf.cast(drawn["translations"][0], tf.float32))
            a, b, c, d, e, f = 1.0, 0.0, -right, 0.0, 1.0, -down
        else:
            x, y = tf.unstack(tf.cast(drawn["shear_factor"][0], tf.float32))
            a, b, c, d, e, f = 1.0, x, 0.0, y, 1.0, 0.0
        # Pixel i reaches from i to i + 1: its middle is at i + 0.5.
        c, f = c + 0.5 - (a + b) * 0.5, f + 0.5 - (d + e) * 0.5
        rows, columns = sides(size)
        across, down = rows / columns, columns / rows  # of a height in widths, and turned round
        return tf.linalg.inv(_affine((a, b * across, c / columns), (d * down, e, f / rows)))

    return move


def _affine(first: tuple, second: tuple) -> tf.Tensor:
    rows = [tf.stack([tf.cast(x, tf.float32) for x in row]) for row in (first, second)]
    return tf.stack([*rows, tf.constant([0.0, 0.0, 1.0])])
