"""From what cells answer to single objects: the best of boxes that overlap stays."""

from __future__ import annotations

import numpy as np

from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.detections import Found

LEAST_SCORE = 0.01
"""Below this nothing is an answer: average precision goes by the order of scores, and wants the
weak ones too."""

MOST_CANDIDATES = 1_000
"""Cells that are looked at, by the highest of their scores."""

MOST_FOUND = 100
"""Answers for an image: as many as COCO's average precision takes (pycocotools, `maxDets`)."""


def suppressed(boxes: np.ndarray, scores: np.ndarray, most_overlap: float) -> Found:
    """Return the objects of one image.

    Of the boxes of a class, from the best score on, those that overlap by more with one that was
    kept are dropped (Girshick et al. 2014, section 2.2): what `tf.image.
    combined_non_max_suppression` does in exports.

    Args:
        boxes: (cells, 4), in pixels of the image.
        scores: of each class (cells, classes).
        most_overlap: intersection over union up to which two boxes are two objects.
    """
    best = scores.max(axis=1)
    order = np.argsort(-best, kind="stable")[:MOST_CANDIDATES]
    boxes, scores = boxes[order], scores[order]
    kept: list[tuple[float, int, int]] = []
    for number in np.flatnonzero((scores > LEAST_SCORE).any(axis=0)):
        own = np.flatnonzero(scores[:, number] > LEAST_SCORE)
        own = own[np.argsort(-scores[own, number], kind="stable")]
        count = 0
        while len(own) and count < MOST_FOUND:
            first, own = own[0], own[1:]
            kept.append((float(scores[first, number]), int(first), int(number)))
            count += 1
            own = own[overlap(boxes[own], boxes[first][None], np) <= most_overlap]
    kept.sort(key=lambda row: -row[0])
    kept = kept[:MOST_FOUND]
    places = [place for _, place, _ in kept]
    return Found(
        boxes[places].astype(np.float32).reshape(-1, 4),
        np.array([score for score, _, _ in kept], np.float32),
        np.array([number for _, _, number in kept], np.int64),
    )
