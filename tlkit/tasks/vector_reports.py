"""What classes, labels and numbers show of their answers in a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlkit.data.csv_cells import csv_cell
from tlkit.tasks.drawing import LABELLED
from tlkit.tasks.metrics import wilson_interval
from tlkit.tasks.shown import (
    Answers,
    Confusion,
    Figure,
    Gallery,
    Reliability,
    Scatter,
    Shown,
    Table,
    Tile,
    bootstrap,
    macro_f1_statistic,
    metric_tables,
    reliability,
    reliability_of,
)

FEATURED = 24
"""Images in a gallery."""

IN_CELL, IN_RIGHT_CELL = 24, 6
"""Images of a cell of the confusion matrix, and of one on its diagonal."""

CONFUSIONS = 50
"""Rows of the table that stands in for the confusion matrix of many classes."""


def class_figures(metrics: dict[str, Any], given: np.ndarray, truth: np.ndarray) -> list[Figure]:
    """Return accuracy and macro F1 with their intervals, and the loss.

    Args:
        given, truth: class indices (n,).
    """
    every = np.arange(len(metrics["confusion"]))
    spread = bootstrap(
        macro_f1_statistic(truth[:, None] == every, given[:, None] == every), len(given)
    )
    return [
        Figure("accuracy", metrics["accuracy"], tuple(metrics["interval95"])),
        Figure("macro F1", metrics["macro_f1"], spread),
        Figure("loss", metrics["loss"]),
        *([Figure("ROC-AUC", metrics["roc_auc"])] if "roc_auc" in metrics else []),
        Figure("test images", metrics["examples"]),
    ]


def predicted_classes(answers: Answers, outputs: Sequence[str]) -> np.ndarray:
    """Return the class indices (n,) that `predictions.csv` names.

    Probabilities have six digits there: of two that look equal, the named class is the larger.
    """
    cells = np.array([csv_cell(name) for name in outputs])
    named = np.array(answers.predictions)
    return np.where(named[:, None] == cells, answers.outputs, -1).argmax(axis=1)


def class_parts(
    metrics: dict[str, Any],
    outputs: Sequence[str],
    answers: Answers,
    truth: np.ndarray,
    given: np.ndarray,
) -> list[Shown]:
    """Return confusion matrix, mistakes, uncertain answers, table of classes, reliability.

    Args:
        truth, given: class indices (n,).
    """
    best = answers.outputs[np.arange(len(given)), given].astype(np.float64)
    wrong = np.flatnonzero(given != truth)

    def tile(i: int) -> Tile:
        text = f"{outputs[given[i]]} {best[i]:.3f}"
        right = given[i] == truth[i]
        return Tile(answers.ids[i], text if right else f"{text}, is {outputs[truth[i]]}")

    sure = wrong[np.argsort(-best[wrong], kind="stable")]
    unsure = np.argsort(best, kind="stable")[:FEATURED]
    shown: list[Shown] = [
        Gallery(
            "Most confident mistakes",
            [tile(i) for i in sure[:FEATURED]],
            f"{len(wrong):,} of {len(given):,} test images are wrong; the most confident first."
            + ("" if len(wrong) else " There is none to show."),
        ),
        Gallery(
            "Least certain",
            [tile(i) for i in unsure],
            "The images whose answer has the lowest probability, right or wrong.",
        ),
    ]
    first = _confusion(metrics["confusion"], outputs, truth, given, best, tile)
    tops = metrics["top_k"]
    more = [Table("Among the most probable", [f"top {k}" for k in tops], [list(tops.values())])]
    table = _class_table(metrics)
    return [
        *first,
        *shown,
        table,
        *(more if len(tops) > 1 else []),
        *ranking_table(metrics),
        *reliability_parts(metrics, best, given == truth),
    ]


def ranking_table(metrics: dict[str, Any]) -> list[Table]:
    """Return how well probabilities rank two classes; of others nothing."""
    if metrics.get("roc_auc") is None:
        return []
    rows = [(name, x, metrics["roc_auc"]) for name, x in metrics["average_precision"].items()]
    return [Table("Ranking", ("class", "average precision", "ROC-AUC"), rows)]


def reliability_parts(
    metrics: dict[str, Any], probabilities: np.ndarray, right: np.ndarray
) -> list[Reliability]:
    """Return the reliability of the answers, and what it is by the run's temperature.

    Args:
        probabilities, right: of each answer as trained (n,), for a run whose metrics do not tell.
    """
    found = metrics.get("calibration")
    if found is None:
        return [reliability(probabilities, right)]
    if found["temperature"] == 1:
        bins, error = found["reliability"]["raw"], found["ece"]["raw"]
        return [reliability_of(bins, error)]
    titles = {
        "raw": "Reliability as trained",
        "calibrated": f"Reliability by temperature {found['temperature']:.3g}",
    }
    return [
        reliability_of(found["reliability"][key], found["ece"][key], title)
        for key, title in titles.items()
    ]


def _confusion(counts, outputs, truth, given, best, tile) -> list[Shown]:
    """Return the matrix, or, of more classes than it has room for, its largest cells."""
    cells: dict[tuple[int, int], list[int]] = {}
    for i in np.argsort(-best, kind="stable"):
        cells.setdefault((int(truth[i]), int(given[i])), []).append(int(i))
    if len(outputs) <= LABELLED:
        tiles = {}
        for (row, column), own in cells.items():
            chosen = own[:IN_CELL] if row != column else own[::-1][:IN_RIGHT_CELL]
            tiles[row, column] = [tile(i) for i in chosen]
        note = (
            "Rows: the true class; columns: the predicted one. A number leads to its images; of "
            "right answers those with the lowest probability are shown."
        )
        return [Confusion("Confusion matrix", outputs, counts, tiles, note)]
    wrong = sorted((c for c in cells if c[0] != c[1]), key=lambda c: -len(cells[c]))
    rows = [(outputs[r], outputs[c], len(cells[r, c])) for r, c in wrong[:CONFUSIONS]]
    note = f"The most frequent of {len(wrong):,} kinds of mistakes."
    return [Table("Confusions", ("is", "predicted", "images"), rows, note)]


def _class_table(metrics: dict[str, Any]) -> Table:
    """Return scores of each class; those of `metrics.json`, with intervals of two of them."""
    counts = np.asarray(metrics["confusion"])
    given = counts.sum(axis=0)
    rows = []
    for i, (name, row) in enumerate(metrics["per_class"].items()):
        hits, support = int(counts[i, i]), row["support"]
        ends = [_interval(hits, n) for n in (int(given[i]), support)]
        rows.append((name, row["precision"], ends[0], row["recall"], ends[1], row["f1"], support))
    columns = ("class", "precision", "95%", "recall", "95%", "F1", "images")
    note = "Intervals: Wilson 1927. A class that is neither there nor predicted has no scores."
    return Table("Classes", columns, rows, note)


def _interval(hits: int, total: int) -> str:
    return " to ".join(f"{max(0.0, x):.2f}" for x in wilson_interval(hits, total)) if total else ""


def label_figures(metrics: dict[str, Any], truth: np.ndarray, given: np.ndarray) -> list[Figure]:
    """Return the F1 scores of labels, the macro one with its interval.

    Args:
        truth, given: bool (n, labels).
    """
    spread = bootstrap(macro_f1_statistic(truth, given), len(truth))
    macro = metrics["macro_f1"]
    return [
        Figure("macro F1", macro, spread if macro is not None else None),
        Figure("micro F1", metrics["micro_f1"]),
        Figure("mean average precision", metrics["mean_average_precision"]),
        Figure("test images", metrics["examples"]),
    ]


def label_parts(
    metrics: dict[str, Any],
    outputs: Sequence[str],
    answers: Answers,
    truth: np.ndarray,
    given: np.ndarray,
) -> list[Shown]:
    """Return the most confident mistakes in single labels, all metrics, reliability."""
    probabilities = answers.outputs
    certainty = np.where(given, probabilities, 1 - probabilities)
    places = np.argwhere(given != truth)
    order = np.argsort(-certainty[given != truth], kind="stable")
    tiles = []
    for i, j in places[order][:FEATURED]:
        said = "given, is not there" if given[i, j] else "not given, is there"
        tiles.append(Tile(answers.ids[i], f"{outputs[j]} {probabilities[i, j]:.3f}: {said}"))
    note = f"{len(places):,} of {given.size:,} single labels are wrong; the most confident first."
    right = ((probabilities >= 0.5) == truth).ravel()
    sure = np.maximum(probabilities, 1 - probabilities).ravel().astype(np.float64)
    gallery = Gallery("Most confident mistakes", tiles, note)
    return [gallery, *metric_tables(metrics), *reliability_parts(metrics, sure, right)]


def number_figures(metrics: dict[str, Any], truth: np.ndarray, given: np.ndarray) -> list[Figure]:
    """Return the errors of numbers, with intervals.

    Args:
        truth, given: (n, numbers).
    """
    error = np.abs(given - truth).astype(np.float64)
    of_image, square = error.mean(axis=1), np.square(error).mean(axis=1)
    count = len(error)
    return [
        Figure(
            "mean absolute error", metrics["mae"], bootstrap(lambda w: w @ of_image / count, count)
        ),
        Figure("RMSE", metrics["rmse"], bootstrap(lambda w: np.sqrt(w @ square / count), count)),
        Figure("R²", metrics["r2"]),
        Figure("test images", metrics["examples"]),
    ]


def number_parts(
    metrics: dict[str, Any],
    outputs: Sequence[str],
    answers: Answers,
    truth: np.ndarray,
    given: np.ndarray,
    scale: np.ndarray,
) -> list[Shown]:
    """Return predicted against true numbers, the largest errors, all metrics.

    Args:
        truth, given: (n, numbers).
        scale: standard deviation of each number, by which errors are compared.
    """
    plots: list[Shown] = [
        Scatter(f"Predicted against true: {name}", truth[:, j].tolist(), given[:, j].tolist())
        for j, name in enumerate(outputs)
    ]
    order = np.argsort(-(np.abs(given - truth) / scale).max(axis=1), kind="stable")[:FEATURED]
    tiles = []
    for i in order:
        pairs = zip(outputs, given[i], truth[i], strict=True)
        text = "; ".join(f"{name} {x:.4g}, is {y:.4g}" for name, x, y in pairs)
        tiles.append(Tile(answers.ids[i], text))
    note = "Errors in standard deviations of each number; the largest first."
    return [*plots, Gallery("Largest errors", tiles, note), *metric_tables(metrics)]
