"""Any number of boxes for each image, as a target column: boxes move with their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import Size
from tlkit.data.boxes import LEAST_SHOWN, moved_boxes
from tlkit.data.column import Geometry, LabelReading

ROW = 7
"""Numbers of a box: class, x1, y1, x2, y2, weight, and whether it counts where a model is
measured."""

CHUNK = 64
"""Images whose boxes are moved in one call."""


@dataclass(frozen=True)
class BoxSets:
    """A column of sets of boxes.

    Attributes:
        rows: float32 (n, boxes, `ROW`): number of the class, x1, y1, x2, y2 as fractions of the
            width and height of what the model sees, the weight in training, 0 where there is no
            box, and 1 for what counts in measuring: each image has as many rows as the one with
            most boxes.
        sizes: int32 (n, 2), height and width of each image in pixels.
    """

    rows: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        return self.rows[indices]

    def select(self, indices: Sequence[int]) -> BoxSets:
        """Return the column of the rows with these indices."""
        return BoxSets(self.rows[indices], self.sizes[indices])

    def read_by(self, reading: LabelReading) -> BoxSets:
        """Return the column itself: its labels are in no files of their own."""
        return self

    def seen_by(self, changes: Geometry, seeds: np.ndarray, size: Size) -> BoxSets:
        """Return the boxes of images that are changed by these seeds, see `column.seen_by`."""

        @tf.function(autograph=False)
        def moved(rows: tf.Tensor, sizes: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(
                lambda item: _moved(*item[:2], changes, size, item[2]),
                (rows, sizes, seeds),
                fn_output_signature=tf.TensorSpec(self.rows.shape[1:]),
            )

        rows, changed = self.rows.copy(), np.flatnonzero(seeds[:, 0] >= 0)
        with tf.device("/CPU:0"):
            for start in range(0, len(changed), CHUNK):
                own = changed[start : start + CHUNK]
                rows[own] = moved(rows[own], self.sizes[own], seeds[own].astype(np.int32)).numpy()
        return replace(self, rows=rows)

    def target(self, index: tf.Tensor, changes: Any, size: Size, seed: tf.Tensor) -> tf.Tensor:
        """Return the boxes of an image that is changed by `seed`, in graph code, see `Boxes`."""
        row = tf.constant(self.rows)[index]
        if changes is None:
            return row
        return _moved(row, tf.constant(self.sizes)[index], changes, size, seed)


def _moved(
    row: tf.Tensor, sides: tf.Tensor, changes: Geometry, size: Size, seed: tf.Tensor
) -> tf.Tensor:
    """Return boxes after what `changes` does, without those that are hardly shown any more."""
    boxes, share = moved_boxes(row[:, 1:5], sides, changes, size, seed)
    shown = tf.cast(share >= LEAST_SHOWN, tf.float32)[:, None]
    return tf.concat([row[:, :1], boxes * shown, row[:, 5:] * shown], axis=1)
