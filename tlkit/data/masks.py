"""Masks in files: a class number for each pixel of an image, as a target column."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tlkit.backbones.sides import Size, sides
from tlkit.compute.cores import CORES
from tlkit.data.column import LabelReading
from tlkit.data.example import FileLabel
from tlkit.data.mask_coding import COLOUR, values_in
from tlkit.data.pictures.placement import STRETCH, Placement, placement
from tlkit.errors import DataError
from tlkit.spec.coding import VOID

Change = Callable[[tf.Tensor, int, tf.Tensor], tf.Tensor]
"""From a mask uint8 (height, width, 1), the side wanted and a seed (two integers) to a mask
(size, size, 1), as `augment.Augmenter.mask` does it."""


def plain_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Return the values of a mask uint8 (height, width) for what they are.

    Raises:
        DataError: they are colours, or do not fit into a byte.
    """
    if values.max(initial=0) > 255:
        kind = "colours" if values.max() >= COLOUR else f"numbers up to {values.max()}"
        raise DataError(
            f"{where}: must hold one number a pixel. Allowed: a grey or palette image of 8 bits. "
            f"Received: {kind}"
        )
    return values.astype(np.uint8)


@dataclass(frozen=True)
class Masks:
    """A column of masks: 20,000 of them are in neither memory nor graph, but read when needed.

    Attributes:
        files: the masks. One of another size than the image it belongs to (`FileLabel.shape`) is
            brought to that, each pixel taking the number nearest to it.
        size: of the model's input, to which they are brought as images are.
        fit: how they are brought to it.
        encode: makes a target, of fixed shape, of a mask uint8 (size, size, 1), in graph code;
            after augmentation.
        numbers: makes class numbers uint8 (height, width) of the values int32 (height, width) in a
            file; the second argument begins an error message.
        reading: what reads the files; None: they are read unchecked.
        change: what changes the masks whose row in `seeds` is not below 0; None: all are as they
            are.
        seeds: int32 (n, 2).
    """

    files: tuple[FileLabel, ...]
    size: Size
    encode: Callable[[tf.Tensor], tf.Tensor]
    fit: str = STRETCH
    numbers: Callable[[np.ndarray, str], np.ndarray] = plain_numbers
    reading: LabelReading | None = None
    change: Change | None = None
    seeds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else list(indices)
        if len(chosen) == 1:  # which may be asked from many threads
            return self._row(chosen[0])[None]
        with ThreadPoolExecutor(CORES) as threads:
            return np.stack(list(threads.map(self._row, chosen)))

    def _row(self, index: int) -> np.ndarray:
        with tf.device("/CPU:0"):
            mask = tf.constant(self.read(index))
            row = _traced(self.size, self.fit, self.encode, self.change)(mask, self._seed(index))
            return row.numpy()

    def _seed(self, index: int) -> np.ndarray:
        seed = (-1, -1) if self.seeds is None else self.seeds[index]
        return np.asarray(seed, np.int32)

    def select(self, indices: Sequence[int]) -> Masks:
        """Return the column of the masks with these indices."""
        seeds = None if self.seeds is None else self.seeds[np.asarray(indices, int)]
        return replace(self, files=tuple(self.files[i] for i in indices), seeds=seeds)

    def read_by(self, reading: LabelReading) -> Masks:
        """Return the same column, read by `reading`."""
        return replace(self, reading=reading)

    def seen_by(self, changes: Any, seeds: np.ndarray, size: Size) -> Masks:
        """Return the masks of images that are changed by these seeds, see `column.seen_by`."""
        return replace(self, change=changes.mask, seeds=seeds)

    def read(self, index: int) -> np.ndarray:
        """Return the class numbers of a mask, uint8 (height, width, 1) of its image.

        Raises:
            DataError: it holds what stands for no class.
            OSError: it cannot be read, or is not what was scanned.
        """
        label = self.files[index]
        content = self.reading.read_label(label) if self.reading else label.read()
        with Image.open(io.BytesIO(content)) as image:
            numbers = self.numbers(values_in(image), f"mask {label.path}")
        if label.shape and numbers.shape != label.shape:
            size = label.shape[::-1]
            numbers = np.asarray(Image.fromarray(numbers).resize(size, Image.Resampling.NEAREST))
        return numbers[..., None]

    def load(self, index: tf.Tensor) -> tf.Tensor:
        """Return what `read` does as graph code."""
        mask = tf.numpy_function(self.read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(mask, (None, None, 1))

    def target(self, index: tf.Tensor, changes: Any, size: Size, drawn: tf.Tensor) -> tf.Tensor:
        """Return a row of the column, as graph code.

        Args:
            changes: what changes the image by the seed `drawn`, an `Augmenter`; None: the mask is
                changed as its own row in `seeds` says.
            size: side of the model's input in pixels.
        """
        if changes is not None:
            return self.encode(changes.mask(self.load(index), size, drawn))
        seed = tf.constant((-1, -1)) if self.seeds is None else tf.constant(self.seeds)[index]
        return _target(self.load(index), seed, (self.size, self.fit), self.encode, self.change)


def _target(
    mask: tf.Tensor,
    seed: tf.Tensor,
    seen: tuple[Size, str],
    encode: Callable[[tf.Tensor], tf.Tensor],
    change: Change | None,
) -> tf.Tensor:
    """Return the target of a stored mask, changed where the seed is not below 0.

    Args:
        seen: side of the model's input, and how images are brought to it.
    """
    size, fit = seen

    def as_is() -> tf.Tensor:
        return nearest(mask, size, fit)

    if change is None:
        return encode(as_is())
    changed = tf.cond(seed[0] < 0, as_is, lambda: change(mask, size, seed))
    return encode(tf.ensure_shape(changed, (*sides(size), 1)))


@functools.lru_cache(8)
def _traced(
    size: Size, fit: str, encode: Callable[[tf.Tensor], tf.Tensor], change: Change | None
) -> tf.types.experimental.PolymorphicFunction:
    """Return `_target` as a graph function of mask and seed, traced once for all columns."""
    return tf.function(
        lambda mask, seed: _target(mask, seed, (size, fit), encode, change),
        [tf.TensorSpec((None, None, 1), tf.uint8), tf.TensorSpec((2,), tf.int32)],
        autograph=False,
    )


def nearest(mask: tf.Tensor, size: Size, fit: str = STRETCH) -> tf.Tensor:
    """Bring a mask (height, width, 1) to a size without making new numbers.

    Bars are `VOID`; see `decode.resize`, which does it with images.
    """
    how, (rows, columns) = tf.image.ResizeMethod.NEAREST_NEIGHBOR, sides(size)
    if fit == STRETCH:
        return tf.image.resize(mask, (rows, columns), how)
    height, width, _ = tf.unstack(tf.shape(mask, tf.int64))
    place = Placement(*(tf.cast(x, tf.int32) for x in placement(height, width, size, fit)))
    inner = tf.image.resize(mask, tf.stack([place.height, place.width]), how)
    ahead = [place.top, place.left]
    behind = [rows - place.top - place.height, columns - place.left - place.width]
    margins = tf.stack([*zip(ahead, behind, strict=True), (0, 0)])
    void = tf.constant(VOID, mask.dtype)
    return tf.ensure_shape(tf.pad(inner, margins, constant_values=void), (rows, columns, 1))


def spread(probabilities: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return probabilities (rows, columns, classes) of each pixel of an image of this size.

    Bilinear, as `largest_class` does it."""
    return tf.image.resize(probabilities, (height, width), "bilinear")


def largest_class(probabilities: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return the most probable class of each pixel of an image, uint8 (height, width).

    The probabilities are stretched to the image class by class: those of 21 classes of an image of
    12 megapixels take a gigabyte. Graph code, bilinear.

    Args:
        probabilities: (size, size, classes).
    """
    size, probabilities = tf.stack([height, width]), tf.convert_to_tensor(probabilities)
    size = tf.cast(size, tf.int32)
    best, chosen = None, None
    for i in range(probabilities.shape[-1]):
        own = tf.image.resize(probabilities[..., i : i + 1], size, "bilinear")[..., 0]
        if best is None:
            best, chosen = own, tf.zeros_like(own, tf.uint8)
        else:
            chosen = tf.where(own > best, tf.constant(i, tf.uint8), chosen)
            best = tf.maximum(own, best)
    return chosen
