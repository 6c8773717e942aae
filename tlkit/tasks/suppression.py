"""From what cells answer to single objects: the best of boxes that overlap stays."""

from __future__ import annotations

from typing import Any

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

VOTING = 0.65
"""Intersection over union from which a candidate has a say in where a kept box is (Gidaris &
Komodakis 2015, section 5, who take 0.5). Measured with MobileNetV2 at 320 px on 142 images of one
class, seed 0, AP and AP75 on validation and test: 0.396 and 0.201, 0.428 and 0.230 without voting;
0.413 and 0.262, 0.492 and 0.385 with it; 0.416 and 0.262, 0.491 and 0.385 from 0.5 on."""


def suppressed(
    boxes: np.ndarray,
    scores: np.ndarray,
    most_overlap: float,
    least: np.ndarray | float = LEAST_SCORE,
) -> Found:
    """Return the objects of one image.

    Of the boxes of a class, from the best score on, those that overlap by more with one that was
    kept are dropped (Girshick et al. 2014, section 2.2), as `export.objects` does it in graphs.
    Where a kept box lies is then the mean of all that overlap with it by `VOTING`, by their scores.
    A box without an area, as one beside the image is once it is cut to it, is no object.

    Args:
        boxes: (cells, 4), in pixels of the image.
        scores: of each class (cells, classes).
        most_overlap: intersection over union up to which two boxes are two objects.
        least: score from which on a box is an answer, one for all or of each class (classes,).
    """
    scores = scores * holds(boxes)[:, None]
    best = scores.max(axis=1)
    order = np.argsort(-best, kind="stable")[:MOST_CANDIDATES]
    boxes, scores = boxes[order], scores[order]
    kept: list[tuple[float, int, int]] = []
    allowed = (scores > LEAST_SCORE) & (scores >= least)
    for number in np.flatnonzero(allowed.any(axis=0)):
        own = np.flatnonzero(allowed[:, number])
        own = own[np.argsort(-scores[own, number], kind="stable")]
        count = 0
        while len(own) and count < MOST_FOUND:
            first, own = own[0], own[1:]
            kept.append((float(scores[first, number]), int(first), int(number)))
            count += 1
            own = own[overlap(boxes[own], boxes[first][None], np) <= most_overlap]
    kept.sort(key=lambda row: -row[0])
    kept = kept[:MOST_FOUND]
    places, numbers = [place for _, place, _ in kept], [number for _, _, number in kept]
    found = boxes[places].reshape(-1, 4)
    near = overlap(found[:, None], boxes[None], np) >= VOTING
    votes = near * scores[:, numbers].T
    return Found(
        (votes @ boxes / votes.sum(axis=1, keepdims=True)).astype(np.float32),
        np.array([score for score, _, _ in kept], np.float32),
        np.array(numbers, np.int64),
    )


def holds(boxes: Any) -> Any:
    """Tell which boxes (..., 4) have an area, as `bool` (...)."""
    return (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
