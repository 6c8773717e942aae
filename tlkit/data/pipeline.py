"""tf.data pipelines: examples in, batches of RGB 0-255 pictures out."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from tlkit.data.augment import light
from tlkit.data.decode import decode, resize, traced_decode_and_resize
from tlkit.data.sources import Example


def batches(
    examples: list[Example],
    targets: np.ndarray,
    size: int,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    augment: bool = False,
    epochs: range = range(1),
) -> tf.data.Dataset:
    """Return batches of images float32 (n, size, size, 3), 0-255, and of their targets.

    Args:
        targets: a row for each example, as a task encodes it.
        shuffle_seed: shuffles all examples, otherwise in each epoch; None keeps the order given.
        augment: applies `tlkit.data.augment.light`, other draws in each epoch.
        epochs: the epochs to give, one after the other. Order and draws depend on the seed and
            the epoch alone, so that a run that is resumed sees what it would have seen.
    """
    rows = tf.constant(targets)
    load, load_resized = _loaders(examples, size)

    def make(i, seed=None):
        image = load_resized(i) if seed is None else light(load(i), size, seed)
        return image, rows[i]

    def one(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _order(len(examples), shuffle_seed, epoch)
        dataset = tf.data.Dataset.from_tensor_slices(order)
        if augment:
            key = tf.stack([tf.constant((shuffle_seed or 0) % 2**31), tf.cast(epoch, tf.int32)])
            dataset = dataset.enumerate().map(lambda at, i: (i, tf.random.fold_in(key, at)))
        dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.batch(batch_size)

    passes = tf.data.Dataset.range(epochs.start, epochs.stop)
    return passes.flat_map(one).prefetch(tf.data.AUTOTUNE)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order int64 (count,) of an epoch: a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _order(count: int, seed: int | None, epoch: tf.Tensor) -> tf.Tensor:
    if seed is None:
        return tf.range(count, dtype=tf.int64)
    order = tf.numpy_function(lambda e: epoch_order(count, seed, int(e)), [epoch], tf.int64)
    return tf.ensure_shape(order, (count,))


def _loaders(examples: list[Example], size: int):
    """Return two graph functions of an index: the decoded picture, and the resized one.

    The resized one is the exported graph's own `decode_and_resize`, so that the same file gives
    the same pixels at training and at serving time, to the bit.
    """
    if all(example.path is not None for example in examples):
        resized = traced_decode_and_resize(size)
        paths = tf.constant([os.fsencode(example.path) for example in examples], tf.string)
        return (
            lambda i: decode(tf.io.read_file(paths[i])),
            lambda i: resized(tf.io.read_file(paths[i])),
        )

    def fetch(i: np.int64) -> np.ndarray:
        return examples[i].pixels.astype(np.float32)

    def load(i):
        image = tf.numpy_function(fetch, [i], tf.float32, stateful=False)
        image.set_shape((None, None, 3))
        return image

    return load, lambda i: resize(load(i), size)
