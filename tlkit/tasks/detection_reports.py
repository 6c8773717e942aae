"""What detections show of their answers in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlkit.tasks.detection_drawing import DIFFERENCES
from tlkit.tasks.detection_evaluator import NOTHING
from tlkit.tasks.drawing import LABELLED
from tlkit.tasks.shown import Figure, Shown, Table

CONFUSIONS = 50
"""Rows of the table that stands in for the confusion of many classes."""


def detection_figures(metrics: dict[str, Any]) -> list[Figure]:
    """Return AP50 with its interval, AP, AP75, and how much was measured."""
    ends = metrics["ap50_interval95"]
    return [
        Figure("AP50", metrics["ap50"], None if ends is None else tuple(ends)),
        Figure("AP", metrics["ap"]),
        Figure("AP75", metrics["ap75"]),
        Figure("objects", metrics["objects"]),
        Figure("test images", metrics["examples"]),
    ]


def detection_parts(metrics: dict[str, Any], names: Sequence[str]) -> list[Shown]:
    """Return tables of the classes, of the kinds of error, of confusion and of sizes."""
    keys = ("ap50", "ap", "threshold", "precision", "recall", "f1", "count")
    classes = [(name, *(own[k] for k in keys)) for name, own in metrics["per_class"].items()]
    columns = ("class", "AP50", "AP", "threshold", "precision", "recall", "F1", "objects")
    note = "Precision, recall and F1 at IoU 0.5, of answers that reach their class's threshold."
    errors = [(name, DIFFERENCES[name], count) for name, count in metrics["errors"].items()]
    what = "Answers that reach their class's threshold, and objects that none of them finds."
    sizes = [[metrics[f"ap_{name}"] for name in ("small", "medium", "large")]]
    ranges = ("up to 32 x 32 pixels", "up to 96 x 96", "larger")
    return [
        Table("Classes", columns, classes, note),
        Table("Errors", ("kind", "what it is", "number"), errors, f"{what} Bolya et al. 2020."),
        _confusion_table(metrics["confusion"], (*names, NOTHING)),
        Table("AP by the area of objects", ranges, sizes, "Pixels of the original images."),
    ]


def _confusion_table(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table:
    """Return all of it, or, of more classes than there is room for, the most frequent mistakes."""
    if len(names) <= LABELLED:
        rows = [(name, *own) for name, own in zip(names, counts, strict=True)]
        note = "Rows are true classes, columns predicted ones, in objects."
        return Table("Confusion", ("", *names), rows, note)
    each = [
        (names[i], names[j], count)
        for i, own in enumerate(counts)
        for j, count in enumerate(own)
        if i != j and count
    ]
    each.sort(key=lambda row: -row[2])
    note = f"The most frequent of {len(each):,} kinds of mistakes."
    return Table("Confusion", ("is", "predicted", "objects"), each[:CONFUSIONS], note)
