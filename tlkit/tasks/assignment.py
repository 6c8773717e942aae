"""Which cell of a one-stage detector answers for which object, and what is minimised then."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras.utils import bounding_boxes

from tlkit.backbones.sides import Size, sides
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.detector import cells

CLASS_POWER, OVERLAP_POWER, MOST_CELLS = 0.5, 6.0, 10
"""Exponents of a cell's class probability and of its overlap in how well it fits an object, and the
cells that answer for one: alpha and beta of Feng et al. 2021 (TOOD, section 3.2), who have 1, 6 and
13; the values are those that later one-stage detectors settled on."""

BOX_WEIGHT = 2.5
"""Of the loss of boxes against that of classes."""


class Assigned(NamedTuple):
    """What each cell should answer.

    Attributes:
        boxes: (n, cells, 4), in pixels of the input; of cells without an object zeros.
        shares: (n, cells, classes), for the cell's object how well it fits, 0 to 1.
        some: (n, cells), 1 where the cell has an object.
    """

    boxes: Any
    shares: Any
    some: Any


def assign(truth: Any, boxes: Any, shares: Any, centres: np.ndarray) -> Assigned:
    """Give each object the cells inside of it that answer best for it by now.

    A cell fits an object by its probability of the object's class and by how its box overlaps with
    it (Feng et al. 2021, equation 6). The best `MOST_CELLS` of each object are taken; one that
    several objects want goes to the one that its box overlaps with most. What a cell should say of
    the class is how well it fits, scaled so that the best cell of an object gets its overlap
    (section 3.2.2).

    Args:
        truth: (n, objects, 7), rows of `BoxSets`, but boxes in pixels of the input.
        boxes: answered (n, cells, 4), in the same pixels.
        shares: answered (n, cells, classes).
        centres: of the cells (cells, 2).
    """
    ops = keras.ops
    classes = shares.shape[-1]
    there = ops.cast(truth[..., 5] > 0, boxes.dtype)
    named = ops.one_hot(
        ops.cast(ops.maximum(truth[..., 0], 0), "int32"), classes, dtype=boxes.dtype
    )
    true = truth[..., 1:5]
    x, y = (ops.convert_to_tensor(centres[None, None, :, i]) for i in (0, 1))
    edges = [x - true[..., 0:1], y - true[..., 1:2], true[..., 2:3] - x, true[..., 3:4] - y]
    nearest = ops.minimum(ops.minimum(edges[0], edges[1]), ops.minimum(edges[2], edges[3]))
    allowed = ops.cast(nearest > 0, boxes.dtype) * there[..., None]
    shared = overlap(true[:, :, None], boxes[:, None], ops)
    own = ops.matmul(named, ops.transpose(shares, (0, 2, 1)))
    fit = ops.power(own, CLASS_POWER) * ops.power(shared, OVERLAP_POWER) * allowed
    last = ops.top_k(fit, min(MOST_CELLS, len(centres)))[0][..., -1:]
    taken = ops.cast((fit >= last) & (fit > 0), boxes.dtype)
    # A cell has one object: the one that its box overlaps with most, of equals the first.
    wanted = shared * taken
    best = ops.cast(wanted >= ops.max(wanted, axis=1, keepdims=True), boxes.dtype) * taken
    best = best * ops.cast(ops.cumsum(best, axis=1) == 1, boxes.dtype)
    fit = fit * best
    highest = ops.max(fit, axis=2, keepdims=True)
    reached = ops.max(shared * best, axis=2, keepdims=True)
    # The overlap of a small object is tiny to the sixth power: no bound may be near it.
    worth = fit / ops.where(highest > 0, highest, 1.0) * reached
    each = ops.transpose(best, (0, 2, 1))
    return Assigned(
        ops.matmul(each, true),
        ops.matmul(ops.transpose(worth, (0, 2, 1)), named),
        ops.sum(best, axis=1),
    )


class Detected(keras.losses.Loss):
    """Binary cross-entropy of the classes in all cells, and 1 - CIoU (Zheng et al. 2020) of the
    boxes in those that have an object, weighted by how well they fit; over the sum of these weights
    in the batch (Feng et al. 2021, section 3.3).

    Without an object that sum is taken as 1: the loss is that of the classes alone, and finite.

    Targets are rows of `BoxSets`, answers those of `Detector`.

    Args:
        size: of the model's input, see `sides`.
    """

    def __init__(self, size: Size, **options: Any):
        super().__init__(**options)
        self._centres, _ = cells(size)
        height, width = sides(size)
        self._whole = np.array([width, height, width, height], np.float32)

    def call(self, truth, answer):
        """Return the loss of each image (n,), whose mean is that of the batch."""
        ops = keras.ops
        answer = ops.cast(answer, "float32")
        truth = ops.cast(truth, "float32")
        truth = ops.concatenate(
            [truth[..., :1], truth[..., 1:5] * self._whole, truth[..., 5:]], axis=-1
        )
        boxes, shares = answer[..., :4] * self._whole, answer[..., 4:]
        found = assign(truth, ops.stop_gradient(boxes), ops.stop_gradient(shares), self._centres)
        wanted = Assigned(*map(ops.stop_gradient, found))
        worth = ops.sum(wanted.shares, axis=-1)
        # Cells without an object are compared with themselves: their share of the loss is 0.
        true = ops.where(wanted.some[..., None] > 0, wanted.boxes, ops.stop_gradient(boxes))
        ciou = bounding_boxes.compute_ciou(true, boxes, bounding_box_format="xyxy")
        missed = (1 - ops.reshape(ciou, ops.shape(worth))) * worth * wanted.some
        shares = ops.clip(shares, 1e-6, 1 - 1e-6)
        entropy = -wanted.shares * ops.log(shares) - (1 - wanted.shares) * ops.log(1 - shares)
        total = BOX_WEIGHT * ops.sum(missed, axis=1) + ops.sum(entropy, axis=(1, 2))
        images = ops.sum(ops.ones_like(total))
        return total * images / ops.maximum(ops.sum(worth), 1.0)
