"""What is minimised, and what ranks, where one box and its class are answered."""

from __future__ import annotations

import keras
from keras.utils import bounding_boxes

from tlkit.tasks.box_metrics import RIGHT_FROM, corners, inside, overlap


class Located(keras.losses.Loss):
    """Cross-entropy of the class, and 1 - CIoU of the box (Zheng et al. 2020); 0 where a changed
    image no longer shows the object.

    Targets are rows of `Boxes`, answers those of `Localisation`.
    """

    def call(self, truth, answer):
        """Return the loss of each image (n,)."""
        shown = keras.ops.cast(truth[:, 1] >= 0, answer.dtype)
        named = keras.ops.cast(truth[:, 0], "int32")
        entropy = keras.losses.sparse_categorical_crossentropy(named, answer[:, :-4])
        return shown * (entropy + 1 - ciou(truth[:, 1:], answer[:, -4:]))


def ciou(truth, answer):
    """Return the complete IoU (n,) of corners `truth` (n, 4) and boxes `answer` (n, 4)."""
    found = corners(answer, keras.ops)
    values = bounding_boxes.compute_ciou(truth, found, bounding_box_format="xyxy")
    return keras.ops.reshape(values, (-1,))


def localisation_score(truth, answer):
    """Return of each image the mean of its IoU and of whether it is localised."""
    iou = overlap(truth[:, 1:], inside(answer[:, -4:], keras.ops), keras.ops)
    named = keras.ops.cast(keras.ops.argmax(answer[:, :-4], axis=1), truth.dtype)
    located = keras.ops.cast((named == truth[:, 0]) & (iou >= RIGHT_FROM), iou.dtype)
    return (iou + located) / 2
