"""Any number of boxes for each image, as a target column: boxes move with their images."""

from __future__ import annotations

import tensorflow as tf

from tlkit.backbones.sides import Size
from tlkit.data.boxes import LEAST_SHOWN, BoxColumn, moved_boxes
from tlkit.data.column import Geometry

ROW = 7
"""Numbers of a box: class, x1, y1, x2, y2, weight, and whether it counts where a model is
measured."""


class BoxSets(BoxColumn):
    """A column of sets of boxes: rows float32 (n, boxes, `ROW`), for each box the number of the
    class, x1, y1, x2, y2 as fractions of the width and height of what the model sees, the weight in
    training, 0 where there is no box, and 1 for what counts in measuring. Each image has as many
    rows as the one with most boxes."""

    @staticmethod
    def moved(
        row: tf.Tensor, sides: tf.Tensor, changes: Geometry, size: Size, seed: tf.Tensor
    ) -> tf.Tensor:
        """Return boxes after what `changes` does, without those that are hardly shown any more."""
        boxes, share = moved_boxes(row[:, 1:5], sides, changes, size, seed)
        shown = tf.cast(share >= LEAST_SHOWN, tf.float32)[:, None]
        return tf.concat([row[:, :1], boxes * shown, row[:, 5:] * shown], axis=1)
