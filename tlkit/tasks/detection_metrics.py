"""Metrics of finding several objects an image, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.tasks.detection_ap import MOST_ANSWERS, Matches, average_precisions, match
from tlkit.tasks.detection_errors import (
    RIGHT,
    Kinds,
    best_thresholds,
    confusion_with_background,
    kinds_of,
    running_counts,
)
from tlkit.tasks.detections import Found, TrueObjects
from tlkit.tasks.shown import AT_ONCE, bootstrap

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is averaged: COCO's."""


@dataclass(frozen=True)
class Assessment:
    """How well objects are found: what metrics, tables and drawings are made of.

    Attributes:
        names: of the classes.
        averages, by_class: see `average_precisions`.
        thresholds: of the classes (classes,), scores from which on answers are accepted.
    """

    names: Sequence[str]
    averages: dict[str, float | None]
    by_class: Sequence[dict[str, float | None]]
    matches: Matches
    thresholds: np.ndarray
    kinds: Kinds

    @property
    def objects(self) -> int:
        """How many objects count."""
        return int((~self.matches.aside).sum())

    @property
    def confusion(self) -> list[list[int]]:
        """True against answered classes (classes + 1, classes + 1), see
        `confusion_with_background`."""
        return confusion_with_background(self.matches, self.kinds, len(self.names)).tolist()

    def metrics(self) -> dict[str, Any]:
        """Return all metrics; what there is no object for is None.

        Returns:
            `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large` (`average_precisions`);
            `ap50_interval95`, by bootstrap over images; `examples` and `objects` that count;
            `per_class` with `ap`, `ap50`, `count` of objects, and at `threshold` and IoU 0.5
            `precision`, `recall` and `f1`; `errors` by kind (`detection_errors`) and `confusion`
            (classes + 1, classes + 1) with the background last, both at the thresholds.
            Where there are such: `difficult_left_out`, objects that do not count, and
            `beyond_limit`, objects more than the `MOST_ANSWERS` of one class in one image, which no
            answer can find.
        """
        matches, classes = self.matches, len(self.names)
        found = {
            **self.averages,
            "ap50_interval95": interval(matches, classes),
            "examples": matches.images,
            "objects": self.objects,
            "per_class": {name: self.of_class(k) for k, name in enumerate(self.names)},
            "errors": self.kinds.count(),
            "confusion": self.confusion,
        }
        more = {"difficult_left_out": int(matches.aside.sum()), "beyond_limit": _beyond(matches)}
        return {**found, **{name: count for name, count in more.items() if count}}

    def of_class(self, k: int) -> dict[str, Any]:
        """Return the metrics of one class."""
        matches = self.matches
        count = int(matches.count(len(self.names))[k])
        accepted = matches.counted & (matches.classes == k) & (matches.scores >= self.thresholds[k])
        right, given = int((accepted & (self.kinds.kind == RIGHT)).sum()), int(accepted.sum())
        return {
            **self.by_class[k],
            "count": count,
            "threshold": float(self.thresholds[k]),
            "precision": right / given if given else None,
            "recall": right / count if count else None,
            "f1": 2 * right / (given + count) if given + count else None,
        }


def assess(
    truths: Sequence[TrueObjects],
    found: Sequence[Found],
    names: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> Assessment:
    """Return how well objects are found.

    Args:
        truths, found: of the same images.
        names: of the classes.
        thresholds: of the classes, chosen on other images; None or empty: those with the best F1 on
            these.
    """
    averages, by_class, matches = average_precisions(truths, found, len(names))
    given = thresholds is not None and len(thresholds) > 0
    chosen = np.array(thresholds, float) if given else best_thresholds(matches, len(names))
    return Assessment(names, averages, by_class, matches, chosen, kinds_of(matches, chosen))


def chosen_thresholds(
    truths: Sequence[TrueObjects], found: Sequence[Found], classes: int
) -> tuple[float, ...]:
    """Return the thresholds of the classes with the best F1 on images, see `best_thresholds`."""
    return tuple(map(float, best_thresholds(match(truths, found, classes), classes)))


def _beyond(matches: Matches) -> int:
    """Return how many objects are more than answers of a class in an image count."""
    pairs = np.stack([matches.true_image, matches.true_classes])[:, ~matches.aside]
    _, counts = np.unique(pairs, axis=1, return_counts=True)
    return int(np.maximum(counts - MOST_ANSWERS, 0).sum())


def interval(matches: Matches, classes: int) -> list[float] | None:
    """Return the 95% interval of AP50 by bootstrap over images, from matches made once: an image
    that is drawn again has the same ones. None: fewer than two images, or no objects."""
    if matches.aside.all():
        return None
    ends = bootstrap(ap50_statistic(matches, classes), matches.images)
    return None if ends is None else list(ends)


def ap50_statistic(matches: Matches, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives AP50 of resamples (`bootstrap`): the mean over the classes that occur in
    each; NaN where none does."""
    columns = [_class_columns(matches, k) for k in np.flatnonzero(matches.count(classes))]

    def statistic(drawn: np.ndarray) -> np.ndarray:
        each = np.array([_in_pieces(drawn, *own) for own in columns])
        there = ~np.isnan(each)
        total = np.where(there, each, 0).sum(axis=0)
        return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)

    return statistic


def _class_columns(matches: Matches, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the images of a class's answers, best first, whether each is right, and how many
    objects each image has."""
    own = np.flatnonzero(matches.counted & (matches.classes == k))
    own = own[np.argsort(-matches.scores[own], kind="stable")]
    objects = matches.true_image[~matches.aside & (matches.true_classes == k)]
    objects = np.bincount(objects, minlength=matches.images).astype(np.float32)
    return matches.image[own], matches.right[own], objects


def _in_pieces(drawn: np.ndarray, image: np.ndarray, *own: np.ndarray) -> np.ndarray:
    """Return `_resampled`, of as many resamples at a time as memory has room for."""
    size = max(1, AT_ONCE // max(1, len(image)))
    pieces = (drawn[start : start + size] for start in range(0, len(drawn), size))
    return np.concatenate([_resampled(piece, image, *own) for piece in pieces])


def _resampled(
    drawn: np.ndarray, image: np.ndarray, right: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """Return the average precision of a class in each resample (resamples,); NaN: no objects.

    Precision is looked at where it can rise, at the right answers alone.
    """
    weights, total = drawn[:, image], drawn @ objects
    given = np.cumsum(weights, axis=1, dtype=np.float32)[:, right]
    hits = np.cumsum(weights[:, right], axis=1, dtype=np.float32)
    hits, given, total = (x.astype(np.float64) for x in (hits, given, total))  # whole numbers
    best = np.maximum.accumulate((hits / np.maximum(given, 1))[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    recall = hits / np.maximum(total, 1)[:, None]
    at = np.array([np.searchsorted(row, RECALLS) for row in recall]).reshape(len(best), -1)
    return np.where(total > 0, np.take_along_axis(best, at, axis=1).mean(axis=1), np.nan)


def precision_and_recall(assessment: Assessment, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall (n,) of a class by falling score, at IoU 0.5."""
    matches = assessment.matches
    own = matches.counted & (matches.classes == k)
    _, hits, given = running_counts(matches.scores[own], matches.right[own])
    return hits / np.maximum(given, 1), hits / max(1, matches.count(len(assessment.names))[k])


def detection_headline(metrics: dict[str, Any]) -> str:
    """Return what a person wants to know first of `Assessment.metrics`, in a line."""
    values = ("-" if metrics[k] is None else f"{metrics[k]:.3f}" for k in ("ap50", "ap", "ap75"))
    ap50, ap, ap75 = values
    ends = metrics["ap50_interval95"]
    spread = "" if ends is None else f" (95% interval {ends[0]:.3f}-{ends[1]:.3f})"
    rows = [(n, own["ap50"]) for n, own in metrics["per_class"].items() if own["ap50"] is not None]
    each = ", ".join(f"{name} {x:.3f}" for name, x in rows[:4]) if len(rows) > 1 else ""
    each = f" ({each}{', ...' if len(rows) > 4 else ''})" if each else ""
    text = (
        f"AP50 {ap50}{spread}{each}, AP {ap}, AP75 {ap75}, of {metrics['objects']:,} objects in "
        f"{metrics['examples']:,} images"
    )
    if beyond := metrics.get("beyond_limit"):
        text += (
            f"; {beyond:,} of them cannot be found: {MOST_ANSWERS} answers of a class count in an "
            "image"
        )
    return text
