"""Random changes that leave an image's class as it is, in named levels.

Each is a pure function of image and seed: nothing is remembered between two images, so the same
seed gives the same image in whatever order and on however many threads they are made, and under
every Keras backend. Single changes are `keras.layers` driven by seeds of ours. Of Keras 3.15 these
would not do (measured): `RandAugment` and `RandomColorJitter` draw from a state of their own,
whatever seed they are given; `Solarization` takes the lower bound of its threshold in other units
than the upper; `Equalization` takes 26 ms an image under the JAX backend. `RandomContrast(f)` only
ever raises the contrast, but is right with a pair.

Example:
    >>> change = augmenter("strong", mirror=False)
    >>> change(image, 224, seed)                 # float32 (224, 224, 3), 0 to 255
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from tlkit.data.masks import nearest
from tlkit.data.pictures.decode import resize

Change = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From an image float32 (size, size, 3), 0-255, or a mask (size, size, 1), and a seed (two
integers) to another such."""


MIN_AREA = {"light": 0.7, "medium": 0.5, "strong": 0.35}
"""Smallest share of the image that a crop keeps. Inception's 0.08 (Szegedy et al. 2015) loses
the object in fine-tuning; a crop of 0.7 shifts and zooms by up to a fifth."""

BRIGHTNESS = 0.1
"""Largest change of brightness of the light level, as a share of the range 0-255."""

JITTER = 0.2
"""Largest relative change of brightness, contrast and saturation of the medium level: half of the
0.4 that is usual for training from random weights (https://github.com/facebook/fb.resnet.torch)."""

ROTATION = 15 / 360
"""Largest rotation of the medium level, in turns: half of RandAugment's 30 degrees."""

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


class _Seeds(keras.random.SeedGenerator):
    """Seeds for a Keras layer, each split off the one before: nothing is kept between calls."""

    def __init__(self, seed: tf.Tensor):  # not the parent's, which makes a variable
        self._seed = seed

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next seed, two integers."""
        self._seed, drawn = tf.unstack(tf.random.split(self._seed, 2))
        return drawn


@dataclass(frozen=True)
class Augmenter:
    """Changes images, and their masks likewise, at random: one seed gives both the same geometry.

    Attributes:
        min_area: smallest share of the image that a crop keeps.
        mirror: whether images are mirrored, left to right, half of the time.
        changes: what follows crop and mirror.
        mask_changes: those of them that move pixels, each pixel taking the nearest value.
    """

    min_area: float
    mirror: bool
    changes: Change
    mask_changes: Change

    def __call__(self, image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
        """Return a changed image float32 (size, size, 3), 0-255.

        Args:
            image: (height, width, 3), 0-255.
            seed: two integers.
        """
        crop, flip, rest = self._seeds(seed)
        image = resize(_crop(image, self.min_area, crop), size)
        if self.mirror:
            image = tf.image.stateless_random_flip_left_right(image, flip)
        # Resizing may leave 255.0001, which some of the changes would carry on.
        return tf.clip_by_value(self.changes(image, rest), 0.0, 255.0)

    def mask(self, mask: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
        """Return the mask uint8 (size, size, 1) of what an image becomes with this seed.

        Args:
            mask: uint8 (height, width, 1), of the image's size.
        """
        crop, flip, rest = self._seeds(seed)
        mask = nearest(_crop(mask, self.min_area, crop), size)
        if self.mirror:
            mask = tf.image.stateless_random_flip_left_right(mask, flip)
        return tf.cast(self.mask_changes(tf.cast(mask, tf.float32), rest), tf.uint8)

    def _seeds(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 3))


def augmenter(level: str, mirror: bool = True) -> Augmenter | None:
    """Return what changes images at random by `level`; None for `none`.

    Args:
        level: `none`; `light`: crops, mirror, brightness; `medium`: also contrast, saturation and
            rotation, all stronger; `strong`: crops, mirror, RandAugment and random erasing.
        mirror: whether images are mirrored, left to right, half of the time.
    """
    if level == "none":
        return None
    changes = {
        "light": (_brighten, _unmoved),
        "medium": (_in_turn(_medium("bilinear")), _in_turn(_medium("nearest"))),
        "strong": (_strong(), _strong_geometry()),
    }
    return Augmenter(MIN_AREA[level], mirror, *changes[level])


def _crop(image: tf.Tensor, min_area: float, seed: tf.Tensor) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(min_area, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.slice(image, begin, extent)


def _brighten(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return image + tf.random.stateless_uniform((), seed, -BRIGHTNESS, BRIGHTNESS) * 255


def _unmoved(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a mask as it is: what changes colours alone does nothing to it."""
    return image


def _medium(interpolation: str) -> list[Change]:
    rotation = keras.layers.RandomRotation(ROTATION, interpolation=interpolation, dtype="float32")
    if interpolation == "nearest":
        return [_seeded(rotation), _unmoved, _unmoved, _unmoved]
    return [
        _seeded(rotation),
        _seeded(keras.layers.RandomBrightness(JITTER, dtype="float32")),
        _seeded(keras.layers.RandomContrast((JITTER, JITTER), dtype="float32")),
        lambda image, seed: (
            tf.image.stateless_random_saturation(image / 255, 1 - JITTER, 1 + JITTER, seed) * 255
        ),
    ]


def _in_turn(steps: list[Change]) -> Change:
    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for step, own in zip(steps, tf.unstack(tf.random.split(seed, len(steps))), strict=True):
            image = step(image, own)
        return image

    return change


def _strong() -> Change:
    operations = _operations("bilinear")
    erase = _seeded(
        keras.layers.RandomErasing(
            (ERASED, ERASED), ERASED_AREA, fill_value=list(IMAGENET_MEAN), dtype="float32"
        )
    )

    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        which, last, *seeds = tf.unstack(tf.random.split(seed, OPERATIONS + 2))
        return erase(_drawn(image, operations, which, seeds), last)

    return change


def _strong_geometry() -> Change:
    """Return what `_strong` does to a mask; one of an erased part stays, as a class would."""
    operations = _operations("nearest")

    def change(mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        which, _, *seeds = tf.unstack(tf.random.split(seed, OPERATIONS + 2))
        return _drawn(mask, operations, which, seeds)

    return change


def _drawn(
    image: tf.Tensor, operations: list[Change], which: tf.Tensor, seeds: list[tf.Tensor]
) -> tf.Tensor:
    """Return `image` after as many drawn operations as there are seeds."""
    chosen = tf.random.stateless_uniform((OPERATIONS,), which, 0, len(operations), tf.int32)
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
    layers, how = keras.layers, {"interpolation": interpolation, "dtype": "float32"}
    moving = [
        layers.RandomShear((0, 0.27), 0, **how),
        layers.RandomShear(0, (0, 0.27), **how),
        layers.RandomTranslation(0.27, 0, **how),
        layers.RandomTranslation(0, 0.27, **how),
        layers.RandomRotation(27 / 360, **how),
    ]
    colouring = [
        layers.RandomBrightness(0.3, dtype="float32"),
        layers.RandomContrast((0.8, 0.8), dtype="float32"),
        layers.RandomColorDegeneration((0, 0.8), dtype="float32"),
        layers.RandomSharpness((0.0, 1.0), dtype="float32"),
        layers.RandomPosterization((4, 8), dtype="float32"),
        layers.AutoContrast(dtype="float32"),
    ]
    if interpolation == "nearest":
        others = [_unmoved] * len(colouring)
        return [_unmoved, _unmoved, *map(_seeded, moving), *others]
    return [_unmoved, _solarise, *map(_seeded, moving + colouring)]


def _solarise(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Turn all values above a threshold into their negative."""
    threshold = tf.random.stateless_uniform((), seed, SOLARISED_FROM, 255.0)
    return tf.where(image < threshold, image, 255 - image)


def _seeded(layer: keras.layers.Layer) -> Change:
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
