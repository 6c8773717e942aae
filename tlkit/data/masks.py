"""Masks in files: a class number for each pixel of an image, as a target column."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from PIL import Image

from tlkit.data.column import LabelReading
from tlkit.data.example import FileLabel
from tlkit.data.pictures.files import read_file
from tlkit.errors import DataError


@dataclass(frozen=True)
class Masks:
    """A column of masks: 20,000 of them are in neither memory nor graph, but read when needed.

    Attributes:
        files: the masks.
        size: side of the model's input in pixels, to which they are stretched as images are.
        encode: makes a target, of fixed shape, of a mask uint8 (size, size, 1), in graph code;
            after augmentation.
        reading: what reads the files; None: they are read unchecked.
    """

    files: tuple[FileLabel, ...]
    size: int
    encode: Callable[[tf.Tensor], tf.Tensor]
    reading: LabelReading | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        with tf.device("/CPU:0"):
            return np.stack([self.encode(self.fitted(self.read(i))).numpy() for i in chosen])

    def select(self, indices: Sequence[int]) -> Masks:
        """Return the column of the masks with these indices."""
        return replace(self, files=tuple(self.files[i] for i in indices))

    def read_by(self, reading: LabelReading) -> Masks:
        """Return the same column, read by `reading`."""
        return replace(self, reading=reading)

    def read(self, index: int) -> np.ndarray:
        """Return a mask as it is stored, uint8 (height, width, 1).

        Raises:
            DataError: it is no grey or palette image of 8 bits.
            OSError: it cannot be read, or is not what was scanned.
        """
        label = self.files[index]
        content = self.reading.read_label(label) if self.reading else read_file(label.path)
        with Image.open(io.BytesIO(content)) as image:
            numbers = np.asarray(image)
        if numbers.ndim != 2 or numbers.dtype not in (np.uint8, np.bool_):
            raise DataError(
                f"mask {label.path}: must hold one number a pixel. Allowed: a grey or palette "
                f"image of 8 bits. Received: {numbers.dtype} of shape {numbers.shape}"
            )
        return numbers.astype(np.uint8)[..., None]

    def load(self, index: tf.Tensor) -> tf.Tensor:
        """Return what `read` does as graph code."""
        mask = tf.numpy_function(self.read, [index], tf.uint8, stateful=False)
        return tf.ensure_shape(mask, (None, None, 1))

    def fitted(self, mask: tf.Tensor) -> tf.Tensor:
        """Stretch a mask to (size, size, 1); each pixel takes the number nearest to it."""
        return nearest(mask, self.size)


def nearest(mask: tf.Tensor, size: int) -> tf.Tensor:
    """Stretch a mask (height, width, 1) to (size, size, 1) without making new numbers."""
    return tf.image.resize(mask, (size, size), tf.image.ResizeMethod.NEAREST_NEIGHBOR)
