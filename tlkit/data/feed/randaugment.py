"""The strong level of augmentation: RandAugment and random erasing."""

from __future__ import annotations

import keras
import tensorflow as tf

from tlkit.data.feed.geometry import IDENTITY, Move, moved_by
from tlkit.data.feed.seeded import Change, draw, seeded, stays, unmoved

OPERATIONS = 2
"""Changes of one image by RandAugment (Cubuk et al. 2020, table 5: 2 for ResNet-50)."""

SOLARISED_FROM = 128.0
"""Lowest threshold of solarising: lower ones leave few colours of an object as they are."""

ERASED = 0.25
"""Probability that a rectangle of an image is erased: half of what Zhong et al. 2020 (section 4.2)
train with from random weights."""

ERASED_AREA = (0.02, 0.33)
"""Least and largest share of the image that is erased: Zhong et al. 2020 allow 0.02 to 0.4, for
the same reason a little less here."""

IMAGENET_MEAN = (123.68, 116.78, 103.94)
"""What stands in an erased rectangle, RGB (Simonyan & Zisserman 2015; RE-M in Zhong et al.)."""


def strong() -> Change:
    operations = _operations("bilinear")
    erase = seeded(
        keras.layers.RandomErasing(
            (ERASED, ERASED), ERASED_AREA, fill_value=list(IMAGENET_MEAN), dtype="float32"
        )
    )

    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        which, last, *seeds = tf.unstack(tf.random.split(seed, OPERATIONS + 2))
        return erase(_drawn(image, operations, which, seeds), last)

    return change


def strong_geometry() -> Change:
    """Return what `strong` does to a mask; one of an erased part stays, as a class would."""
    operations = _operations("nearest")

    def change(mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        which, _, *seeds = tf.unstack(tf.random.split(seed, OPERATIONS + 2))
        return _drawn(mask, operations, which, seeds)

    return change


def strong_moves() -> Move:
    """Return where `strong` moves points to."""
    moving = [moved_by(layer, draw) for layer in _moving("nearest")]
    moves = [stays, stays, *moving, *[stays] * len(_colouring())]

    def move(size: int, seed: tf.Tensor) -> tf.Tensor:
        which, _, *seeds = tf.unstack(tf.random.split(seed, OPERATIONS + 2))
        chosen, done = _chosen(which, len(moves)), tf.constant(IDENTITY)
        for i, own in enumerate(seeds):
            branches = [lambda f=f, s=own: f(size, s) for f in moves]
            done = tf.ensure_shape(tf.switch_case(chosen[i], branches), (3, 3)) @ done
        return done

    return move


def _chosen(which: tf.Tensor, operations: int) -> tf.Tensor:
    """Return which of the operations are drawn, int32 (OPERATIONS,)."""
    return tf.random.stateless_uniform((OPERATIONS,), which, 0, operations, tf.int32)


def _drawn(
    image: tf.Tensor, operations: list[Change], which: tf.Tensor, seeds: list[tf.Tensor]
) -> tf.Tensor:
    """Return `image` after as many drawn operations as there are seeds."""
    chosen = _chosen(which, len(operations))
    for i, own in enumerate(seeds):
        # One of them runs; Keras's RandAugment computes them all for every image.
        branches = [lambda f=f, x=image, s=own: f(x, s) for f in operations]
        image = tf.ensure_shape(tf.switch_case(chosen[i], branches), image.shape)
        image = tf.clip_by_value(image, 0.0, 255.0)  # posterising would wrap around at 256
    return image


def _operations(interpolation: str) -> list[Change]:
    """Return RandAugment's operations, each with a strength drawn up to that of its magnitude 9.

    Magnitude 9 of 10 (Cubuk et al. 2020, table 5; ranges: Cubuk et al. 2019, table 6); drawn
    strengths do as well as a fixed one (2020, section 4.7). Brightness is added, not multiplied,
    and so is held to 0.3; equalising is left out.
    """
    moving, colouring = _moving(interpolation), _colouring()
    if interpolation == "nearest":
        others = [unmoved] * len(colouring)
        return [unmoved, unmoved, *map(seeded, moving), *others]
    return [unmoved, _solarise, *map(seeded, moving + colouring)]


def _moving(interpolation: str) -> list[keras.layers.Layer]:
    layers, how = keras.layers, {"interpolation": interpolation, "dtype": "float32"}
    return [
        layers.RandomShear((0, 0.27), 0, **how),
        layers.RandomShear(0, (0, 0.27), **how),
        layers.RandomTranslation(0.27, 0, **how),
        layers.RandomTranslation(0, 0.27, **how),
        layers.RandomRotation(27 / 360, **how),
    ]


def _colouring() -> list[keras.layers.Layer]:
    layers = keras.layers
    return [
        layers.RandomBrightness(0.3, dtype="float32"),
        layers.RandomContrast((0.8, 0.8), dtype="float32"),
        layers.RandomColorDegeneration((0, 0.8), dtype="float32"),
        layers.RandomSharpness((0.0, 1.0), dtype="float32"),
        layers.RandomPosterization((4, 8), dtype="float32"),
        layers.AutoContrast(dtype="float32"),
    ]


def _solarise(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Turn all values above a threshold into their negative."""
    threshold = tf.random.stateless_uniform((), seed, SOLARISED_FROM, 255.0)
    return tf.where(image < threshold, image, 255 - image)
