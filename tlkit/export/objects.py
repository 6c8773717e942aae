"""The objects in images, as a graph answers with them: suppressed, in pixels of the originals."""

from __future__ import annotations

import keras
import tensorflow as tf

from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.suppression import LEAST_SCORE, MOST_CANDIDATES, MOST_FOUND, VOTING, holds
from tlkit.tasks.task import Task


def found_objects(task: Task, raw: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the objects whose scores reach the thresholds of their classes, the best first.

    Args:
        task: one that `finds` objects.
        raw: the model's outputs float32 (n, cells, ...).
        sizes: int32 (n, 2), height and width of the upright originals.

    Returns:
        boxes float32 (n, `MOST_FOUND`, 4), x1, y1, x2, y2 in pixels of the originals; scores
        float32, classes int32 and labels string (n, `MOST_FOUND`); count int32 (n,): what is beyond
        it is 0, and empty.
    """
    boxes, scores = task.candidates(raw, tf.cast(sizes, tf.int64))
    scores = tf.where(holds(boxes)[..., None], scores, tf.zeros_like(scores))
    best = tf.math.top_k(tf.reduce_max(scores, axis=2), min(MOST_CANDIDATES, raw.shape[1])).indices
    boxes, scores = (tf.gather(x, best, batch_dims=1) for x in (boxes, scores))
    least = tf.constant([*task.least_scores], tf.float32)
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None],
        tf.where(scores >= least, scores, tf.zeros_like(scores)),
        MOST_FOUND,
        MOST_FOUND,
        iou_threshold=task.most_overlap,
        score_threshold=LEAST_SCORE,
        clip_boxes=False,
    )
    there = tf.sequence_mask(kept.valid_detections, MOST_FOUND)
    numbers = tf.cast(kept.nmsed_classes, tf.int32)
    names = tf.gather(tf.constant([*task.outputs]), numbers)
    own = tf.gather(tf.transpose(scores, (0, 2, 1)), numbers, batch_dims=1)
    return {
        "boxes": _voted(kept.nmsed_boxes, boxes, own) * tf.cast(there, tf.float32)[..., None],
        "scores": kept.nmsed_scores,
        "classes": numbers,
        "labels": tf.where(there, names, tf.zeros_like(names)),
        "count": kept.valid_detections,
    }


def _voted(kept: tf.Tensor, boxes: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Return the means (n, k, 4) of the boxes (n, c, 4) that overlap with kept ones (n, k, 4) by
    `VOTING`, by their scores (n, k, c): see `suppression.suppressed`."""
    near = overlap(kept[:, :, None], boxes[:, None], keras.ops) >= VOTING
    votes = tf.where(near, scores, tf.zeros_like(scores))
    total = tf.reduce_sum(votes, axis=2, keepdims=True)
    return tf.math.divide_no_nan(tf.matmul(votes, boxes), total)
