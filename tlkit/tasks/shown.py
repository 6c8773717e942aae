"""What a task shows of its answers in a report: tables, images, a confusion matrix, diagrams.

Plain values: the task says what there is to see, `tlkit.reporting` how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tlkit.data.targets import Label

RESAMPLES = 500
"""Resamples of a bootstrap interval; its ends are percentiles (Efron & Tibshirani 1993, 13.3)."""

AT_ONCE = 2**22
"""Weights of resamples that are held at a time."""

BINS = 15
"""Bins of equal width in a reliability diagram (Guo et al. 2017, section 2)."""

Cell = str | int | float | None


@dataclass(frozen=True)
class Answers:
    """A part of the data with what `predictions.csv` says of it, in its order.

    Attributes:
        ids, labels: of the examples, as they were listed.
        predictions: the text in the column `prediction`, or the second behind `id`.
        outputs: of the model, float32 (n, outputs), with the digits that are written.
    """

    ids: Sequence[str]
    labels: Sequence[Label]
    predictions: Sequence[str]
    outputs: np.ndarray


@dataclass(frozen=True)
class Figure:
    """One number that stands large at the top, with its 95% interval if there is one."""

    name: str
    value: float | int | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Tile:
    """An image with what is said below it."""

    id: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; None is shown as a dash."""

    kind: ClassVar[str] = "table"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images side by side."""

    kind: ClassVar[str] = "gallery"
    title: str
    tiles: Sequence[Tile]
    note: str = ""


@dataclass(frozen=True)
class Confusion:
    """Rows of true classes against columns of predicted ones; cells lead to their images.

    Attributes:
        counts: (classes, classes).
        tiles: images of a cell (true, predicted), those to be seen first in front.
    """

    kind: ClassVar[str] = "confusion"
    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    tiles: dict[tuple[int, int], list[Tile]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Reliability:
    """How often answers of a probability are right.

    Attributes:
        bins: images, mean probability and accuracy of each bin that has any.
        error: expected calibration error.
    """

    kind: ClassVar[str] = "reliability"
    title: str
    bins: Sequence[tuple[int, float, float]]
    error: float
    note: str = ""


@dataclass(frozen=True)
class Scatter:
    """Predicted against true numbers."""

    kind: ClassVar[str] = "scatter"
    title: str
    truth: Sequence[float]
    predicted: Sequence[float]
    note: str = ""


Shown = Table | Gallery | Confusion | Reliability | Scatter


def metric_tables(metrics: dict[str, Any]) -> list[Table]:
    """Return all metrics of a part as tables: the single numbers, then each table of rows."""
    single = [(name, x) for name, x in metrics.items() if isinstance(x, int | float)]
    found = [Table("Metrics", ("metric", "value"), single)] if single else []
    for name, rows in metrics.items():
        if isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values()) and rows:
            columns = list(dict.fromkeys(key for row in rows.values() for key in row))
            title = name.replace("_", " ").capitalize()
            lines = [(own, *(row.get(key) for key in columns)) for own, row in rows.items()]
            found.append(Table(title, ("", *(c.replace("_", " ") for c in columns)), lines))
    return found


def reliability(probabilities: np.ndarray, right: np.ndarray) -> Reliability:
    """Return the reliability diagram of answers and its expected calibration error.

    Args:
        probabilities: of the answers given (n,), 0 to 1.
        right: bool (n,), whether each is.
    """
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for number in np.unique(place):
        own = place == number
        mean, share = float(probabilities[own].mean()), float(right[own].mean())
        bins.append((int(own.sum()), mean, share))
        error += abs(mean - share) * own.sum() / len(right)
    return reliability_of(bins, float(error))


def reliability_of(
    bins: Sequence[tuple[int, float, float]], error: float, title: str = "Reliability"
) -> Reliability:
    """Return a diagram of bins that were counted before; see `Reliability`."""
    note = (
        f"Expected calibration error {error:.3f}: the mean distance between probability and "
        f"accuracy over {BINS} bins (Guo et al. 2017), weighted by images."
    )
    return Reliability(title, bins, error, note)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], examples: int
) -> tuple[float, float] | None:
    """Return the 95% interval of a statistic over resampled examples; None: too few of them.

    Args:
        statistic: from how often each example was drawn, float32 (resamples, examples), to the
            value of each resample (resamples,); NaN: it has none, and is left out.
    """
    if examples < 2:
        return None
    random, values, done = np.random.default_rng(0), [], 0
    while done < RESAMPLES:
        size = min(RESAMPLES - done, max(1, AT_ONCE // examples))
        drawn = random.multinomial(examples, np.full(examples, 1 / examples), size)
        values.append(statistic(drawn.astype(np.float32)))
        done += size
    low, high = np.nanpercentile(np.concatenate(values), (2.5, 97.5))
    return float(low), float(high)


def macro_f1_statistic(truth: np.ndarray, given: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the macro F1 of resamples, over the classes that occur in each.

    Args:
        truth, given: bool (n, classes).
    """
    both, either = (truth & given).astype(np.float32), truth.astype(np.float32) + given

    def statistic(drawn: np.ndarray) -> np.ndarray:
        hits, total = 2 * drawn @ both, drawn @ either
        occurs = np.maximum((total > 0).sum(axis=1), 1)
        return (hits / np.maximum(total, 1)).sum(axis=1) / occurs

    return statistic
