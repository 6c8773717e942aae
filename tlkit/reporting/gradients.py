"""Gradients of answers along feature maps, with TensorFlow: Keras has no call for them."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def mean_gradients(
    head: keras.Model, kernel: np.ndarray, features: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """Return the gradient of each chosen output, before its activation, mean over places.

    Args:
        head: from maps (n, height, width, channels) to (n, features); in inference mode.
        kernel: of the linear layer behind it (features, outputs).
        features: the maps.
        chosen: the number of an output for each image (n,).

    Returns:
        float32 (n, channels).
    """
    maps = tf.convert_to_tensor(features)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        read = tf.cast(head(maps, training=False), tf.float32)
        picked = tf.reduce_sum(read * tf.gather(tf.transpose(kernel), chosen))
    return tf.reduce_mean(tape.gradient(picked, maps), axis=(1, 2)).numpy()
