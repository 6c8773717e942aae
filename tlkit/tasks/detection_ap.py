"""Average precision of boxes by pycocotools, and the matches behind it.

Lin et al. 2014; https://cocodataset.org/#detection-eval
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tlkit.tasks.box_metrics import RIGHT_FROM
from tlkit.tasks.detections import Found, TrueObjects

MOST_ANSWERS = 100
"""Answers of one class in one image that count, those with the best scores: COCO's `maxDets`."""

SIZES = {"": 0, "small": 1, "medium": 2, "large": 3}
"""COCO's ranges of area, of boxes in pixels of the original: all; below 32 x 32; up to 96 x 96;
above."""


@dataclass(frozen=True)
class Matches:
    """All answers and all true objects, image after image, and which belong together.

    Attributes:
        images: how many there are.
        image, boxes, scores, classes: of the answers (n, ...).
        truth: int64 (n,), the true object of the same class that an answer finds with an IoU of at
            least 0.5, better scores first; -1: none.
        counted: bool (n,), whether an answer is right or wrong: it is neither where it finds an
            object that does not count, or is beyond `MOST_ANSWERS`.
        true_image, true_boxes, true_classes: of the true objects (m, ...).
        aside: bool (m,), see `TrueObjects`.
    """

    images: int
    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    truth: np.ndarray
    counted: np.ndarray
    true_image: np.ndarray
    true_boxes: np.ndarray
    true_classes: np.ndarray
    aside: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """The answers (n,) that are right."""
        return self.counted & (self.truth >= 0)

    def count(self, classes: int) -> np.ndarray:
        """Return how many objects of each class count (classes,)."""
        return np.bincount(self.true_classes[~self.aside], minlength=classes)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where the answers and the true objects of each image begin, and the last ends
        (images + 1,)."""
        numbers = np.arange(self.images + 1)
        return np.searchsorted(self.image, numbers), np.searchsorted(self.true_image, numbers)


def ap50(truths: Sequence[TrueObjects], found: Sequence[Found], classes: int) -> float | None:
    """Return the average precision at IoU 0.5, mean over the classes that occur; None: none does.

    Quick enough for every epoch: one threshold and one range of area.
    """
    evaluation = _evaluated(truths, found, classes, (RIGHT_FROM,), sizes=1)
    return _mean(evaluation.eval["precision"])


def match(truths: Sequence[TrueObjects], found: Sequence[Found], classes: int) -> Matches:
    """Return which answers and objects belong together, as quickly as `ap50`."""
    return _matches(_evaluated(truths, found, classes, (RIGHT_FROM,), sizes=1), truths, found)


def average_precisions(
    truths: Sequence[TrueObjects], found: Sequence[Found], classes: int
) -> tuple[dict[str, float | None], list[dict[str, float | None]], Matches]:
    """Return average precisions, those of each class, and the matches behind them.

    Returns:
        `ap` over IoU 0.5, 0.55, ... 0.95; `ap50`, `ap75`; `ap_small`, `ap_medium`, `ap_large` by
        `SIZES`; None where no object is. Then `ap` and `ap50` of each class.
    """
    evaluation = _evaluated(truths, found, classes, None, sizes=len(SIZES))
    precision = evaluation.eval["precision"][..., 0]  # thresholds, recalls, classes, sizes
    whole = precision[..., 0]
    means = {"ap": _mean(whole), "ap50": _mean(whole[0]), "ap75": _mean(whole[5])}
    for name, place in list(SIZES.items())[1:]:
        means[f"ap_{name}"] = _mean(precision[..., place])
    each = [{"ap": _mean(whole[..., k]), "ap50": _mean(whole[0, :, k])} for k in range(classes)]
    return means, each, _matches(evaluation, truths, found)


def _mean(precision: np.ndarray) -> float | None:
    """Return the mean of what there is; pycocotools writes -1 where no object is."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None


@cache
def _evaluation_class() -> type:
    from pycocotools import mask
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """COCO's evaluation with objects that do not count but are no crowds.

        pycocotools takes `ignore` from `iscrowd` alone, and the overlap with a crowd as the
        fraction of the answer that lies in it: any small box inside a difficult object would find
        it. PASCAL VOC's rule for difficult ones is the usual IoU, and that any number of answers
        may find one (Everingham et al. 2010, development kit, `VOCevaldet`).
        """

        def computeIoU(self, image: int, category: int) -> Any:
            ious = super().computeIoU(image, category)
            own = self._gts[image, category]
            plain = np.array([bool(g["iscrowd"]) and not g["crowd"] for g in own], bool)
            if len(ious) and plain.any():
                given = self._dts[image, category]
                order = np.argsort([-d["score"] for d in given], kind="mergesort")
                boxes = [given[i]["bbox"] for i in order[: self.params.maxDets[-1]]]
                truth = [g["bbox"] for g in own]
                ious[:, plain] = mask.iou(boxes, truth, [0] * len(truth))[:, plain]
            return ious

    return Evaluation


def _evaluated(
    truths: Sequence[TrueObjects],
    found: Sequence[Found],
    classes: int,
    thresholds: Sequence[float] | None,
    sizes: int,
) -> Any:
    """Return COCO's evaluation, done.

    Args:
        thresholds: of IoU; None: COCO's ten.
        sizes: how many of `SIZES`.
    """
    from pycocotools.coco import COCO

    shared = {
        "images": [{"id": i} for i in range(len(truths))],
        "categories": [{"id": k} for k in range(classes)],
    }
    sides = COCO(), COCO()
    for coco, rows in zip(sides, (_true_rows(truths), _found_rows(found)), strict=True):
        coco.dataset = {**shared, "annotations": rows}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        for coco in sides:
            coco.createIndex()
        evaluation = _evaluation_class()(*sides, iouType="bbox")
        settings = evaluation.params
        settings.maxDets = [MOST_ANSWERS]
        settings.areaRng = settings.areaRng[:sizes]
        settings.areaRngLbl = settings.areaRngLbl[:sizes]
        if thresholds is not None:
            settings.iouThrs = np.array(thresholds)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _true_rows(truths: Sequence[TrueObjects]) -> list[dict[str, Any]]:
    rows = []
    for image, own in enumerate(truths):
        crowd = np.zeros(len(own.aside), bool) if own.crowd is None else own.crowd
        each = zip(_sides(own.boxes), own.classes, own.aside, crowd, strict=True)
        for box, category, aside, many in each:
            flags = {"iscrowd": int(aside), "crowd": bool(many)}
            rows.append(_row(image, len(rows), box, category) | flags)
    return rows


def _found_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    rows = []
    for image, own in enumerate(found):
        for box, category, score in zip(_sides(own.boxes), own.classes, own.scores, strict=True):
            rows.append(_row(image, len(rows), box, category) | {"score": float(score)})
    return rows


def _row(image: int, place: int, box: list[float], category: int) -> dict[str, Any]:
    """Return an annotation; ids begin at 1, for pycocotools takes 0 for "none"."""
    own = {"id": place + 1, "image_id": image, "category_id": int(category)}
    return {**own, "bbox": box, "area": box[2] * box[3]}


def _sides(boxes: np.ndarray) -> list[list[float]]:
    """Return x, y, width, height of corners (k, 4)."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _matches(evaluation: Any, truths: Sequence[TrueObjects], found: Sequence[Found]) -> Matches:
    """Return what belongs together at the first threshold, in boxes of all sizes."""
    image, true_image = (
        np.repeat(np.arange(len(every)), [len(own.boxes) for own in every])
        for every in (found, truths)
    )
    truth, counted = np.full(len(image), -1), np.zeros(len(image), bool)
    whole = evaluation.params.areaRng[0]
    for own in evaluation.evalImgs:
        if own is not None and own["aRng"] == whole and own["dtIds"]:
            places = np.array(own["dtIds"]) - 1
            truth[places] = own["dtMatches"][0].astype(np.int64) - 1
            counted[places] = ~own["dtIgnore"][0].astype(bool)
    return Matches(
        len(truths), image, *(_joined(found, key) for key in ("boxes", "scores", "classes")),
        truth, counted, true_image,
        *(_joined(truths, key) for key in ("boxes", "classes", "aside")),
    )  # fmt: skip


_EMPTY = {
    "boxes": np.zeros((0, 4)),
    "scores": np.zeros(0, np.float32),
    "classes": np.zeros(0, np.int64),
    "aside": np.zeros(0, bool),
}


def _joined(every: Sequence[Found | TrueObjects], key: str) -> np.ndarray:
    empty = _EMPTY[key]
    rows = [np.asarray(getattr(own, key)).reshape(-1, *empty.shape[1:]) for own in every]
    return np.concatenate([empty, *rows]).astype(empty.dtype)
