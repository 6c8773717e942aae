"""Where augmentation moves points to: matrices for what it does to the pixels of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.data.pictures.placement import placement

Move = Callable[[int, tf.Tensor], tf.Tensor]
"""From the side of a square image in pixels and a seed (two integers) to a matrix (3, 3) that takes
points (x, y, 1), as fractions of the side, to where they are moved."""

Draw = Callable[[Any, int, tf.Tensor], dict[str, tf.Tensor]]
"""From a Keras layer, that side and a seed to what the layer draws."""

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


def set_in(side: tf.Tensor, top: tf.Tensor, left: tf.Tensor, size: int) -> tf.Tensor:
    """Return the matrix of setting a square of `side` pixels into one of `size` at a place."""
    side, top, left = (tf.cast(x, tf.float32) / size for x in (side, top, left))
    return _affine((side, 0.0, left), (0.0, side, top))


def placed(height: tf.Tensor, width: tf.Tensor, size: int | tf.Tensor, fit: str) -> tf.Tensor:
    """Return the matrix of bringing an image to a square as `decode.resize` does.

    Args:
        height, width: of the image in pixels.
    """
    sides = (tf.cast(x, tf.int64) for x in (height, width, size))
    place = placement(*sides, fit)
    top, left, rows, columns = (tf.cast(x, tf.float32) / tf.cast(size, tf.float32) for x in place)
    return _affine((columns, 0.0, left), (0.0, rows, top))


def mirrored(seed: tf.Tensor) -> tf.Tensor:
    """Return the matrix of `tf.image.stateless_random_flip_left_right`, which draws one number."""
    flipped = tf.constant([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return tf.where(tf.random.stateless_uniform((), seed) < 0.5, flipped, tf.constant(IDENTITY))


def moved_by(layer: Any, draw: Draw) -> Move:
    """Return where a Keras layer of rotation, translation or shear moves points to.

    Each of them tells of a pixel of its result which pixel of the image it shows; points go the
    other way.
    """

    def move(size: int, seed: tf.Tensor) -> tf.Tensor:
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
        return tf.linalg.inv(_affine((a, b, c / size), (d, e, f / size)))

    return move


def _affine(first: tuple, second: tuple) -> tf.Tensor:
    rows = [tf.stack([tf.cast(x, tf.float32) for x in row]) for row in (first, second)]
    return tf.stack([*rows, tf.constant([0.0, 0.0, 1.0])])
