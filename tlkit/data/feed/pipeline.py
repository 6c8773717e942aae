"""Examples in, batches of RGB 0-255 images out: by threads, or by tf.data where it draws."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import Size
from tlkit.compute.cores import CORES
from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.column import Column
from tlkit.data.example import Example
from tlkit.data.feed.augment import Augmenter
from tlkit.data.feed.mix import Mixer
from tlkit.data.pictures.decode import decode, resize, traced_decode_and_resize
from tlkit.data.pictures.rendering import PLAIN, Rendering, blend_array
from tlkit.data.scan.reading import Reading

BATCHES_AHEAD = 2
"""Batches that are kept ready."""

DIRECT_UP_TO_IMAGES = 16
"""Arrays up to which batches are made by threads: a pipeline takes half a second to start, and then
resizes them faster."""


@dataclass(frozen=True)
class Draws:
    """What is drawn at random for epochs of images: their order, and how they are changed.

    Attributes:
        seed: of all that is drawn; it shuffles the images, otherwise in each epoch. None keeps the
            order given.
        epochs: the epochs to give, one after the other. Order and draws depend on the seed and
            the epoch alone, so that a run that is resumed sees what it would have seen.
        augment: changes each image at random, other draws in each epoch unless `seeds` has them.
        seeds: int32 (n, 2), what `augment` draws by for each image; below 0: it stays as it is.
        mix: mixes each batch with itself, likewise; targets are then shares float32 (n, outputs).
        balance: weights for the loss, where it has some, come third in a batch; draws need a
            `seed`.
    """

    seed: int | None = None
    epochs: range = range(1)
    augment: Augmenter | None = None
    seeds: np.ndarray | None = None
    mix: Mixer | None = None
    balance: Balance = UNBALANCED

    @property
    def none(self) -> bool:
        """Whether images come once, in the order given, as they are and without weights."""
        changed = self.augment or self.mix or self.balance.weights is not None
        return self.seed is None and len(self.epochs) == 1 and not changed


def batches(
    examples: list[Example],
    targets: Column,
    size: Size,
    batch_size: int,
    draws: Draws = Draws(),
    *,
    rendering: Rendering = PLAIN,
    reading: Reading | None = None,
) -> tf.data.Dataset | Pass:
    """Return batches of images (n, size, size, 3), 0-255, of their targets, and weights.

    Images are float32, as served; those drawn anew in each epoch are rounded to uint8, a quarter of
    the bytes to keep ready and to bring to a device. Networks scale them, there.

    Args:
        targets: a row for each example, as a task encodes it; masks and boxes go through what
            augmentation does to the geometry of their images, by the same seeds where there are
            some.
        rendering: how transparency and 16-bit samples are shown.
        reading: reads the files and holds them against their scan; None: they are read unchecked.
            Arrays lie in this process's memory and are taken as they are.
    """
    if draws.none:
        as_arrays = any(example.pixels is not None for example in examples)
        if len(examples) <= DIRECT_UP_TO_IMAGES or not as_arrays:
            row = _plain_row(examples, targets, size, rendering, reading or Reading({}))
            return Pass(row, len(examples), batch_size)
    augment, seeds, mix, balance = draws.augment, draws.seeds, draws.mix, draws.balance
    drawn = (augment and seeds is None) or mix
    placed = None if isinstance(targets, np.ndarray) else targets
    rows = [] if placed is not None else [tf.constant(targets)]
    if balance.weights is not None:
        rows.append(tf.constant(balance.weights))
    load, load_resized = _loaders(examples, size, rendering, reading or Reading({}))

    @tf.autograph.experimental.do_not_convert
    def make(i, seed=None):
        if augment and seeds is not None:
            own_seed = tf.constant(seeds)[i]
            image = tf.cond(
                own_seed[0] < 0, lambda: load_resized(i), lambda: augment(load(i), size, own_seed)
            )
        else:
            image = augment(load(i), size, seed) if augment else load_resized(i)
        own = tuple(row[i] for row in rows)
        if placed is not None:  # kept views have their targets in `targets`
            own = (placed.target(i, augment if seeds is None else None, size, seed), *own)
        if mix:
            return (image, *own, seed)
        return (_rounded(image) if drawn else image, *own)

    def mixed(images, targets, seeds):
        # Other draws than the first image's own, from the same seed.
        seed = tf.random.fold_in(tf.cast(seeds[0], tf.int32), batch_size)
        images, targets = mix(images, targets, seed)
        return _rounded(images), targets

    def one(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _order(len(examples), draws.seed, epoch, balance)
        dataset = tf.data.Dataset.from_tensor_slices(order)
        if drawn:
            key = tf.stack([tf.constant((draws.seed or 0) % 2**31), tf.cast(epoch, tf.int32)])
            dataset = dataset.enumerate().map(lambda at, i: (i, tf.random.fold_in(key, at)))
        dataset = dataset.map(make, num_parallel_calls=CORES, deterministic=True)
        dataset = dataset.batch(batch_size)
        if mix:
            dataset = dataset.map(mixed, num_parallel_calls=CORES, deterministic=True)
        return dataset

    epochs = draws.epochs
    if draws.seed is None and len(epochs) == 1:
        dataset = one(tf.constant(epochs.start))  # an epoch alone needs no loop, which is traced
    else:
        dataset = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one)
    return dataset.prefetch(BATCHES_AHEAD).with_options(_options())


def _rounded(images: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(images), tf.uint8)


def of_passes(passes: Callable[[], Iterable[Any]]) -> tf.data.Dataset:
    """Return a data set that calls `passes` for the batches of each of its passes.

    Keras replays the batches that it has peeked at whenever it begins with a generator again, and
    goes on where that stood: of a generator each validation but the first saw other images.
    """
    first = next(iter(passes()))
    signature = tf.nest.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), first)
    dataset = tf.data.Dataset.from_generator(passes, output_signature=signature)
    return dataset.prefetch(BATCHES_AHEAD).with_options(_options())


def endless(passes: Callable[[], Iterable[Any]]) -> tf.data.Dataset:
    """Return what `of_passes` does, pass after pass.

    Keras counts whole calls of several steps, even if the last one of an epoch has fewer, and would
    begin a data set with an end again before it has come to it. Whether it begins anew at a
    validation or goes on, it sees one pass.
    """
    return of_passes(passes).repeat()


class Pass:
    """Batches of images as they are, in order, each time that it is iterated: arrays of NumPy.

    Threads of this process decode ahead. A pipeline of tf.data takes 0.7 s to start, which is how
    long its decoding function is optimised anew, and was then no faster: measured with 600 images
    of 224 pixels on two cores, 1.0 s against 0.4 s, with 40 images 0.78 s against 0.04 s.

    Args:
        row: makes the image, its target and so on, of an index; called from several threads.
        count: indices.
    """

    def __init__(self, row: Callable[[int], tuple[np.ndarray, ...]], count: int, batch_size: int):
        self._row, self._count, self._batch_size = row, count, batch_size

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        threads = ThreadPoolExecutor(CORES)
        try:
            rest, size = iter(range(self._count)), self._batch_size
            ahead = [
                threads.submit(self._row, i) for i in islice(rest, BATCHES_AHEAD * size + CORES)
            ]
            waiting = deque(ahead)
            while waiting:
                rows = []
                while waiting and len(rows) < size:
                    rows.append(waiting.popleft().result())
                    waiting.extend(threads.submit(self._row, i) for i in islice(rest, 1))
                yield tuple(np.stack(column) for column in zip(*rows, strict=True))
        finally:  # whoever takes only the first batch does not wait for the others
            threads.shutdown(wait=False, cancel_futures=True)


def _plain_row(
    examples: list[Example], targets: Column, size: Size, rendering: Rendering, reading: Reading
) -> Callable[[int], tuple[np.ndarray, ...]]:
    """Return what `Pass` asks for: resized images as `_loaders` has them, to the bit."""
    resized = traced_decode_and_resize(size, rendering)

    def row(i: int) -> tuple[np.ndarray, ...]:
        pixels = examples[i].pixels
        with tf.device("/CPU:0"):
            if pixels is None:
                image = resized(tf.constant(reading.read(examples[i])))
            else:
                image = resize(_blended(pixels, rendering), size, rendering.fit)
            return image.numpy(), targets[[i]][0]

    return row


def _blended(pixels: np.ndarray, rendering: Rendering) -> np.ndarray:
    """Return an array as it is shown, float32 (height, width, 3)."""
    return blend_array(pixels, rendering).astype(np.float32)


def _options() -> tf.data.Options:
    """Return options that leave the graph as it is, and its parallelism as it was asked for.

    Changing the graph takes longer than it saves: measured with 107 images, 0.4 s instead of
    0.75 s for a whole pass. With autotuning, letting go of an iterator can take seconds without any
    work being done (its thread seems to sleep ever longer): measured once in 25 validations on kept
    features, 0.5 s for most and 4.9 s for one, a sixth of the training; without it none.
    """
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return options


def seed_of(text: str) -> tuple[int, int]:
    """Return a seed for TensorFlow's stateless draws that depends on `text` alone."""
    drawn = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.uint32)
    return tuple(int(number) for number in drawn >> 1)


def epoch_order(count: int, seed: int, epoch: int, balance: Balance = UNBALANCED) -> np.ndarray:
    """Return the order int64 (count,) of an epoch: a pure function of its arguments."""
    return balance.order(count, np.random.default_rng([seed, epoch]))


def _order(count: int, seed: int | None, epoch: tf.Tensor, balance: Balance) -> tf.Tensor:
    if seed is None:
        return tf.range(count, dtype=tf.int64)

    def draw(epoch: np.int64) -> np.ndarray:
        return epoch_order(count, seed, int(epoch), balance)

    return tf.ensure_shape(tf.numpy_function(draw, [epoch], tf.int64), (count,))


def _loaders(examples: list[Example], size: Size, rendering: Rendering, reading: Reading):
    """Return two graph functions of an index: the decoded image, and the resized one.

    The resized one is the exported graph's own `decode_and_resize`, so that the same file gives
    the same pixels at training and at serving time, to the bit.
    """
    if all(example.pixels is None for example in examples):
        resized, encoded = traced_decode_and_resize(size, rendering), _reader(examples, reading)
        return (
            lambda i: decode(encoded(i), rendering),
            lambda i: resized(encoded(i)),
        )

    def fetch(i: np.int64) -> np.ndarray:
        return _blended(examples[i].pixels, rendering)

    def load(i):
        image = tf.numpy_function(fetch, [i], tf.float32, stateful=False)
        image.set_shape((None, None, 3))
        return image

    return load, lambda i: resize(load(i), size, rendering.fit)


def _reader(examples: list[Example], reading: Reading):
    """Return a graph function of an index: the encoded image of a file or a record."""

    def encoded(i):
        read = tf.numpy_function(
            lambda i: reading.read(examples[i]), [i], tf.string, stateful=False
        )
        return tf.ensure_shape(read, ())

    return encoded
