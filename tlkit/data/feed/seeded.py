"""Image layers of Keras as pure functions of an image and a seed."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from tlkit.backbones.sides import Size, sides
from tlkit.data.feed.geometry import IDENTITY

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From an image float32 (size, size, 3), 0-255, or a mask (size, size, 1), and a seed (two
integers) to another such."""


class _Seeds(keras.random.SeedGenerator):
    """Seeds for a Keras layer, each split off the one before: nothing is kept between calls."""

    def __init__(self, seed: tf.Tensor):  # not the parent's, which makes a variable
        self._seed = seed

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next seed, two integers."""
        self._seed, drawn = tf.unstack(tf.random.split(self._seed, 2))
        return drawn


def seeded(layer: keras.layers.Layer) -> Change:
    """Return one of Keras's image layers as a pure function of image and seed."""

    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # As the layer's own call does it in a tf.data graph, under whatever backend.
        layer.backend.set_backend("tensorflow")
        try:
            drawn = layer.get_random_transformation(image[None], seed=_Seeds(seed))
            return layer.transform_images(image[None], drawn)[0]
        finally:
            layer.backend.reset()

    return change


def draw(layer: keras.layers.Layer, size: Size, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return what a layer draws with this seed for an image of `size`, as `seeded` has it drawn.

    The draws of layers that move pixels depend on the size alone, on no pixel.
    """
    layer.backend.set_backend("tensorflow")
    try:
        image = tf.zeros((1, *sides(size), 1))
        return layer.get_random_transformation(image, seed=_Seeds(seed))
    finally:
        layer.backend.reset()


def unmoved(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a mask as it is: what changes colours alone does nothing to it."""
    return image


def stays(size: Size, seed: tf.Tensor) -> tf.Tensor:
    """Return the matrix of a change that moves nothing."""
    return tf.constant(IDENTITY)
