"""Boxes of images as a target column: they move with their images. One box and its class each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import Size
from tlkit.data.column import Geometry, LabelReading

ABSENT = -1.0
"""Corner of a box that an image no longer shows once it has been changed."""

LEAST_SHOWN = 0.2
"""Share of its area below which a box that has left a changed image in part counts as no longer
shown: of less one could not tell where the object is. A choice, not measured."""


CHUNK = 64
"""Images whose boxes are moved in one call."""


@dataclass(frozen=True)
class BoxColumn(ABC):
    """A column of boxes, one row for each image, of whatever form.

    Attributes:
        rows: float32 (n, ...).
        sizes: int32 (n, 2), height and width of each image in pixels.
    """

    rows: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        return self.rows[indices]

    def select(self, indices: Sequence[int]) -> Self:
        """Return the column of the rows with these indices."""
        return replace(self, rows=self.rows[indices], sizes=self.sizes[indices])

    def read_by(self, reading: LabelReading) -> Self:
        """Return the column itself: its labels are in no files of their own."""
        return self

    def seen_by(self, changes: Geometry, seeds: np.ndarray, size: Size) -> Self:
        """Return the boxes of images that are changed by these seeds, see `column.seen_by`."""
        form, pairs = self.rows.shape[1:], tf.TensorSpec((None, 2), tf.int32)

        @tf.function(input_signature=[tf.TensorSpec((None, *form)), pairs, pairs], autograph=False)
        def moved(rows: tf.Tensor, sizes: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(
                lambda item: self.moved(*item[:2], changes, size, item[2]),
                (rows, sizes, seeds),
                fn_output_signature=tf.TensorSpec(form),
            )

        rows, changed = self.rows.copy(), np.flatnonzero(seeds[:, 0] >= 0)
        with tf.device("/CPU:0"):
            for start in range(0, len(changed), CHUNK):
                own = changed[start : start + CHUNK]
                rows[own] = moved(rows[own], self.sizes[own], seeds[own].astype(np.int32)).numpy()
        return replace(self, rows=rows)

    def target(self, index: tf.Tensor, changes: Any, size: Size, seed: tf.Tensor) -> tf.Tensor:
        """Return a row, in graph code, of an image that is changed by `seed`.

        Args:
            changes: what changes it, an `Augmenter`; None: nothing does.
            size: size of the model's input, see `sides`.
        """
        row = tf.constant(self.rows)[index]
        if changes is None:
            return row
        return self.moved(row, tf.constant(self.sizes)[index], changes, size, seed)

    @staticmethod
    @abstractmethod
    def moved(
        row: tf.Tensor, sides: tf.Tensor, changes: Geometry, size: Size, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return a row after what `changes` does by `seed`, see `moved_boxes`."""


class Boxes(BoxColumn):
    """A column of one box an image: rows float32 (n, 5), number of the class, and x1, y1, x2, y2 as
    fractions of the width and height of what the model sees; `ABSENT` where it does not see the
    object."""

    @staticmethod
    def moved(
        row: tf.Tensor, sides: tf.Tensor, changes: Geometry, size: Size, seed: tf.Tensor
    ) -> tf.Tensor:
        box, share = moved_boxes(row[None, 1:], sides, changes, size, seed)
        shown = (share[0] >= LEAST_SHOWN) & (row[1] >= 0)
        return tf.concat([row[:1], tf.where(shown, box[0], tf.fill((4,), ABSENT))], axis=0)


def moved_boxes(
    boxes: tf.Tensor, sides: tf.Tensor, changes: Geometry, size: Size, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the boxes (n, 4) around the moved corners of boxes in an image that is changed by a
    seed, cut to 0 to 1, and the share of its area (n,) that is left of each.

    Args:
        boxes: x1, y1, x2, y2 as fractions of what the model sees of the unchanged image.
        sides: int32 (2,), height and width of the image in pixels.
        changes, size, seed: see `Augmenter.matrices`.
    """
    first, second = changes.matrices(sides[0], sides[1], size, seed)
    boxes, share = _carried(boxes, first)
    boxes, rest = _carried(boxes, second)
    return boxes, share * rest


def _carried(boxes: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the boxes (n, 4) around the moved corners of others, cut, and the shares left (n,)."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=1)
    corners = tf.stack([[x1, x2, x1, x2], [y1, y1, y2, y2]])
    corners = tf.concat([corners, tf.ones_like(corners[:1])], axis=0)
    moved = tf.matmul(matrix, tf.reshape(corners, (3, -1)))[:2]
    moved = tf.reshape(moved, (2, 4, -1))
    low, high = tf.reduce_min(moved, axis=1), tf.reduce_max(moved, axis=1)
    cut_low, cut_high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    left, all_ = (tf.reduce_prod(b - a, axis=0) for a, b in ((cut_low, cut_high), (low, high)))
    return tf.transpose(tf.concat([cut_low, cut_high], axis=0)), tf.math.divide_no_nan(left, all_)
