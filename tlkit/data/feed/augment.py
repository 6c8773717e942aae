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

from dataclasses import dataclass

import keras
import tensorflow as tf

from tlkit.backbones.sides import Size, sides
from tlkit.data.feed.geometry import Move, cropped, mirrored, moved_by, placed, set_in
from tlkit.data.feed.randaugment import IMAGENET_MEAN, strong, strong_geometry, strong_moves
from tlkit.data.feed.seeded import Change, draw, seeded, stays, unmoved
from tlkit.data.masks import nearest
from tlkit.data.pictures.decode import resize
from tlkit.data.pictures.placement import STRETCH

MIN_AREA = {"light": 0.7, "medium": 0.5, "strong": 0.35}
"""Smallest share of the image that a crop keeps. Inception's 0.08 (Szegedy et al. 2015) loses
the object in fine-tuning; a crop of 0.7 shifts and zooms by up to a fifth."""

BRIGHTNESS = 0.1
"""Largest change of brightness of the light level, as a share of the range 0-255."""

SMALLEST = 0.5
"""Least side of what is set into a square, as a fraction of it. SSD goes down to 0.25 (Liu et al.
2016, section 3.6), with far more images."""

UNIT = 4096
"""Side of the square that crops of any aspect ratio are drawn in."""

JITTER = 0.2
"""Largest relative change of brightness, contrast and saturation of the medium level: half of the
0.4 that is usual for training from random weights (https://github.com/facebook/fb.resnet.torch)."""

ROTATION = 15 / 360
"""Largest rotation of the medium level, in turns: half of RandAugment's 30 degrees."""


@dataclass(frozen=True)
class Augmenter:
    """Changes images, and masks and boxes in them likewise: one seed gives all the same geometry.

    Attributes:
        min_area: smallest share of the image that a crop keeps.
        mirror: whether images are mirrored, left to right, half of the time.
        changes: what follows crop and mirror.
        mask_changes: those of them that move pixels, each pixel taking the nearest value.
        moves: where those of them move points to.
        fit: how the crop is brought to the size of the model's input, see `decode.resize`.
        roams: whether the crop is then set, smaller, at a random place; so a model
            sees objects smaller and elsewhere than the images have them.
    """

    min_area: float
    mirror: bool
    changes: Change
    mask_changes: Change
    moves: Move
    roams: bool = False
    fit: str = STRETCH

    def __call__(self, image: tf.Tensor, size: Size, seed: tf.Tensor) -> tf.Tensor:
        """Return a changed image float32 (size, size, 3), 0-255.

        Args:
            image: (height, width, 3), 0-255.
            seed: two integers.
        """
        crop, flip, rest = self._seeds(seed)
        image = self._crop(image, size, crop)
        image = self._set_in(image, size, seed) if self.roams else resize(image, size, self.fit)
        if self.mirror:
            image = tf.image.stateless_random_flip_left_right(image, flip)
        # Resizing may leave 255.0001, which some of the changes would carry on.
        return tf.clip_by_value(self.changes(image, rest), 0.0, 255.0)

    def mask(self, mask: tf.Tensor, size: Size, seed: tf.Tensor) -> tf.Tensor:
        """Return the mask uint8 (size, size, 1) of what an image becomes with this seed.

        Args:
            mask: uint8 (height, width, 1), of the image's size.
        """
        crop, flip, rest = self._seeds(seed)
        mask = nearest(self._crop(mask, size, crop), size, self.fit)
        if self.mirror:
            mask = tf.image.stateless_random_flip_left_right(mask, flip)
        return tf.cast(self.mask_changes(tf.cast(mask, tf.float32), rest), tf.uint8)

    def matrices(
        self, height: tf.Tensor, width: tf.Tensor, size: Size, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where points go in what an image becomes with this seed, as two matrices (3, 3).

        The first takes (x, y, 1), as fractions of what the unchanged image is shown in,
        to fractions of the crop: outside 0 to 1 they are cut away. The second takes them on to
        such of what the network sees.

        Args:
            height, width: of the image in pixels.
        """
        crop, flip, rest = self._seeds(seed)
        begin, extent = self._cropping(tf.stack([height, width, 3]), size, crop)
        onward = self.moves(size, rest)
        if self.mirror:
            onward = onward @ mirrored(flip)
        inner = size
        if self.roams:
            inner, top, left = _place(size, seed)
            onward = onward @ set_in(inner, top, left, size)
        first = cropped(begin, extent, height, width)
        if self.fit != STRETCH:
            onward = onward @ placed(extent[0], extent[1], inner, self.fit)
            first = first @ tf.linalg.inv(placed(height, width, size, self.fit))
        return first, onward

    def _seeds(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 3))

    def _set_in(self, image: tf.Tensor, size: Size, seed: tf.Tensor) -> tf.Tensor:
        """Set an image, smaller, at a random place on the mean colour, (height, width, 3)."""
        inner, top, left = _place(size, seed)
        if self.fit == STRETCH:
            small = tf.image.resize(image, tf.stack(inner), antialias=True)
        else:
            small = resize(image, inner, self.fit)
        around = tf.constant(IMAGENET_MEAN)
        made = tf.image.pad_to_bounding_box(small - around, top, left, *sides(size)) + around
        return tf.ensure_shape(made, (*sides(size), 3))

    def _crop(self, image: tf.Tensor, size: Size, seed: tf.Tensor) -> tf.Tensor:
        begin, extent = self._cropping(tf.shape(image), size, seed)
        return tf.slice(image, begin, extent)

    def _cropping(
        self, shape: tf.Tensor, size: Size, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return begin and extent (3,) of what is left of an image.

        Its aspect ratio lies between 3/4 and 4/3 where crops are stretched to a square; else
        between 3/4 and 4/3 of the image's, so that bars are as wide as they will be, and what is
        stretched to another shape is drawn out as it will be.
        """
        if self.fit == STRETCH and not isinstance(size, tuple):
            return _sampled(shape, self.min_area, seed)
        begin, extent = _sampled(tf.constant([UNIT, UNIT, 3]), self.min_area, seed)
        sides = tf.cast(shape[:2], tf.float32) / UNIT
        first = tf.cast(tf.floor(tf.cast(begin[:2], tf.float32) * sides), tf.int32)
        most = shape[:2] - first
        kept = tf.cast(tf.round(tf.cast(extent[:2], tf.float32) * sides), tf.int32)
        kept = tf.minimum(tf.maximum(kept, 1), most)
        return tf.concat([first, [0]], 0), tf.concat([kept, [-1]], 0)


def augmenter(
    level: str, mirror: bool = True, roams: bool = False, fit: str = STRETCH
) -> Augmenter | None:
    """Return what changes images at random by `level`; None for `none`.

    Args:
        level: `none`; `light`: crops, mirror, brightness; `medium`: also contrast, saturation and
            rotation, all stronger; `strong`: crops, mirror, RandAugment and random erasing.
        mirror: whether images are mirrored, left to right, half of the time.
        roams: see `Augmenter`; for targets with a place in the image, and no masks.
        fit: see `Augmenter`.
    """
    if level == "none":
        return None
    changes = {
        "light": (_brighten, unmoved, stays),
        "medium": (_in_turn(_medium("bilinear")), _in_turn(_medium("nearest")), _medium_moves()),
        "strong": (strong(), strong_geometry(), strong_moves()),
    }
    return Augmenter(MIN_AREA[level], mirror, *changes[level], roams, fit)


def _place(size: Size, seed: tf.Tensor) -> tuple[tuple, tf.Tensor, tf.Tensor]:
    """Return (height, width), top and left of a smaller image in one of `size`, int32 pixels."""
    seed = tf.random.fold_in(tf.cast(seed, tf.int32), 1)  # the other draws stay as they are
    drawn = tf.random.stateless_uniform((3,), seed)
    share = SMALLEST + (1 - SMALLEST) * drawn[0]
    whole = tf.constant(sides(size), tf.int32)
    inner = tf.cast(tf.round(share * tf.cast(whole, tf.float32)), tf.int32)
    rest = tf.cast(whole - inner + 1, tf.float32)
    top, left = tf.unstack(tf.cast(tf.floor(drawn[1:] * rest), tf.int32))
    return tuple(tf.unstack(inner)), top, left


def _sampled(shape: tf.Tensor, min_area: float, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(min_area, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return begin, extent


def _brighten(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return image + tf.random.stateless_uniform((), seed, -BRIGHTNESS, BRIGHTNESS) * 255


def _medium(interpolation: str) -> list[Change]:
    rotation = _rotation(interpolation)
    if interpolation == "nearest":
        return [seeded(rotation), unmoved, unmoved, unmoved]
    return [
        seeded(rotation),
        seeded(keras.layers.RandomBrightness(JITTER, dtype="float32")),
        seeded(keras.layers.RandomContrast((JITTER, JITTER), dtype="float32")),
        lambda image, seed: (
            tf.image.stateless_random_saturation(image / 255, 1 - JITTER, 1 + JITTER, seed) * 255
        ),
    ]


def _rotation(interpolation: str) -> keras.layers.Layer:
    return keras.layers.RandomRotation(ROTATION, interpolation=interpolation, dtype="float32")


def _medium_moves() -> Move:
    steps, rotate = len(_medium("nearest")), moved_by(_rotation("nearest"), draw)
    return lambda size, seed: rotate(size, tf.unstack(tf.random.split(seed, steps))[0])


def _in_turn(steps: list[Change]) -> Change:
    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for step, own in zip(steps, tf.unstack(tf.random.split(seed, len(steps))), strict=True):
            image = step(image, own)
        return image

    return change
