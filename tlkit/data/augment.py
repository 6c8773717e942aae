"""Random changes that leave a picture's class as it is."""

from __future__ import annotations

import tensorflow as tf

from tlkit.data.decode import resize

MIN_AREA = 0.7
"""Smallest share of the picture that a crop keeps. Inception's 0.08 (Szegedy et al. 2015) loses
the object in fine-tuning; a crop of 0.7 shifts and zooms by up to a fifth."""

BRIGHTNESS = 0.1
"""Largest change of brightness, as a share of the range 0-255."""


def light(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Crop, mirror and brighten `image` at random, and resize it.

    Args:
        image: (height, width, 3), 0-255.
        seed: two integers; the same seed gives the same picture.

    Returns:
        float32 (size, size, 3), 0-255.
    """
    seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 3))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seeds[0],
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(MIN_AREA, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    cropped = tf.slice(image, begin, extent)
    mirrored = tf.image.stateless_random_flip_left_right(resize(cropped, size), seeds[1])
    change = tf.random.stateless_uniform((), seeds[2], -BRIGHTNESS, BRIGHTNESS) * 255
    return tf.clip_by_value(mirrored + change, 0.0, 255.0)
