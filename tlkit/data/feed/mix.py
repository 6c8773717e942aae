"""MixUp and CutMix: each image of a batch with a share of another, its target likewise."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Mixer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From images float32 (n, size, size, 3), targets float32 (n, outputs) and a seed (two integers)
to images and targets mixed."""


def mixer(mixup: float, cutmix: float) -> Mixer | None:
    """Return what mixes a batch; None if both are 0.

    Each image is mixed with the one before it in the batch, which is random where the order is,
    by a share drawn from Beta(alpha, alpha). Where both are asked for, each batch goes through one
    of them, by a coin (as in https://github.com/huggingface/pytorch-image-models).

    Args:
        mixup: alpha of Zhang et al. 2018, which blend whole images; 0: off.
        cutmix: alpha of Yun et al. 2019, which set a rectangle of the other image into this one,
            as large as the other's share of the target; 0: off.
    """
    if not mixup and not cutmix:
        return None

    def mix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        coin, own = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 2))
        if mixup and cutmix:
            return tf.cond(
                tf.random.stateless_uniform((), coin) < 0.5,
                lambda: _mixup(images, targets, mixup, own),
                lambda: _cutmix(images, targets, cutmix, own),
            )
        if mixup:
            return _mixup(images, targets, mixup, own)
        return _cutmix(images, targets, cutmix, own)

    return mix


def _mixup(
    images: tf.Tensor, targets: tf.Tensor, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    share = _beta(tf.shape(images)[0], alpha, seed)
    return _blend(images, share[:, None, None, None]), _blend(targets, share[:, None])


def _cutmix(
    images: tf.Tensor, targets: tf.Tensor, alpha: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    shares, rows, columns = tf.unstack(tf.random.split(seed, 3))
    count = tf.shape(images)[0]
    share = tf.sqrt(1 - _beta(count, alpha, shares))
    row, column = (
        _within(count, length, length * share, s)
        for length, s in zip(images.shape[1:3], (rows, columns), strict=True)
    )
    own = 1 - tf.cast(row[:, :, None] & column[:, None, :], tf.float32)
    # The share that the image really keeps: a rectangle has whole pixels, and ends at the edge.
    return _blend(images, own[..., None]), _blend(targets, tf.reduce_mean(own, (1, 2))[:, None])


def _within(count: tf.Tensor, size: int, side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return which of the pixels along one axis lie in the rectangles, bool (count, size).

    Their centres are drawn from the whole image (Yun et al. 2019, equation 2).
    """
    centre = tf.random.stateless_uniform((count,), seed) * size
    pixels = tf.range(size, dtype=tf.float32) + 0.5
    return tf.abs(pixels - centre[:, None]) < side[:, None] / 2


def _blend(values: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    return own * values + (1 - own) * tf.roll(values, 1, 0)


def _beta(count: tf.Tensor, alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """Draw `count` numbers from Beta(alpha, alpha), as a share of two gamma variates."""
    one, other = tf.unstack(tf.random.stateless_gamma((2, count), seed, alpha))
    # Both can be too small for a float32 where alpha is: then the share is 0, an end of the range.
    return tf.math.divide_no_nan(one, one + other)
