"""tf.data pipelines: examples in, batches of RGB 0-255 pictures out."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from tlkit.data.augment import Augmenter
from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.decode import decode, resize, traced_decode_and_resize
from tlkit.data.mix import Mixer
from tlkit.data.sources import Example


def batches(
    examples: list[Example],
    targets: np.ndarray,
    size: int,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    augment: Augmenter | None = None,
    mix: Mixer | None = None,
    balance: Balance = UNBALANCED,
) -> tf.data.Dataset:
    """Return batches of images float32 (n, size, size, 3), 0-255, of their targets, and weights.

    Args:
        targets: a row for each example, as a task encodes it.
        shuffle_seed: reshuffles all examples in every pass; None keeps the order given.
        augment: changes each picture at random, other draws in every pass.
        mix: mixes each batch with itself, likewise; targets are then shares float32 (n, outputs).
        balance: weights for the loss, where it has some, come third in a batch; draws need a
            `shuffle_seed`.
    """
    rows = [tf.constant(targets)]
    if balance.weights is not None:
        rows.append(tf.constant(balance.weights))
    load, load_resized = _loaders(examples, size)
    dataset = tf.data.Dataset.range(len(examples))
    if balance.draws is not None:
        dataset = _drawn(balance, len(examples), shuffle_seed)
    elif shuffle_seed is not None:
        dataset = dataset.shuffle(len(examples), shuffle_seed, reshuffle_each_iteration=True)
    if augment or mix:
        draws = tf.data.Dataset.random(shuffle_seed or 0, rerandomize_each_iteration=True)
        dataset = tf.data.Dataset.zip(dataset, draws.batch(2))

    def make(i, seed=None):
        image = augment(load(i), size, seed) if augment else load_resized(i)
        own = tuple(row[i] for row in rows)
        return (image, *own, seed) if mix else (image, *own)

    def mixed(images, targets, seeds):
        # Other draws than the first picture's own, from the same seed.
        return mix(images, targets, tf.random.fold_in(tf.cast(seeds[0], tf.int32), batch_size))

    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size)
    if mix:
        dataset = dataset.map(mixed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _drawn(balance: Balance, count: int, seed: int) -> tf.data.Dataset:
    """Return the indices of an epoch, drawn anew in every pass."""

    def draw(seed: np.int64) -> np.ndarray:
        return balance.order(count, np.random.default_rng(seed))

    passes = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
    return passes.map(lambda s: tf.numpy_function(draw, [s], tf.int64)).unbatch()


def _loaders(examples: list[Example], size: int):
    """Return two graph functions of an index: the decoded picture, and the resized one.

    The resized one is the exported graph's own `decode_and_resize`, so that the same file gives
    the same pixels at training and at serving time, to the bit.
    """
    if all(example.pixels is None for example in examples):
        resized, encoded = traced_decode_and_resize(size), _reader(examples)
        return (
            lambda i: decode(encoded(i)),
            lambda i: resized(encoded(i)),
        )

    def fetch(i: np.int64) -> np.ndarray:
        return examples[i].pixels.astype(np.float32)

    def load(i):
        image = tf.numpy_function(fetch, [i], tf.float32, stateful=False)
        image.set_shape((None, None, 3))
        return image

    return load, lambda i: resize(load(i), size)


def _reader(examples: list[Example]):
    """Return a graph function of an index: the encoded picture of a file or a record."""
    if all(example.path is not None for example in examples):
        paths = tf.constant([os.fsencode(example.path) for example in examples], tf.string)
        return lambda i: tf.io.read_file(paths[i])

    def encoded(i):
        content = tf.numpy_function(lambda i: examples[i].read(), [i], tf.string, stateful=False)
        return tf.ensure_shape(content, ())

    return encoded
