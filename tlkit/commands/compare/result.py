"""What `tlkit compare` found: ranked, as a table, JSON, CSV, and a plot with its Pareto front."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tlkit.lettering import lettering
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.drawing import save_figure

COLUMNS = {
    "probe": "probe_on_validation",
    "folded": "probe_by_folds",
    "finetuned": "tuned_on_validation",
}
"""What compare.csv calls what compare.json has by a shorter name."""


@dataclass
class Entry:
    """One backbone; what was not measured is None.

    Attributes:
        label: as it was asked for.
        options: the same as options of `tlkit train`.
        probe: validation metric of a head solved on frozen features.
        folded: the same over folds of training and validation part, where backbones are compared
            over such.
        logme: logarithm of the maximum evidence per example, of the training features; None where
            the head is fitted.
        finetuned: validation metric of the delivered model after fine-tuning, never worse than
            the probe's by what ranks.
        epochs: of the fine-tuning; fewer than a full run has, where time is short.
        score: what ranks, higher is better: for classes accuracy, then the lower loss.
        parameters: of the whole model, its new head included.
        latency: milliseconds an image, one at a time, on this device; the median of several.
        megabytes: of the saved model, weights in float32 (10^6 bytes).
        seconds: that it took.
        left_out: why it was not measured; empty: it was.
        front: whether no other is both as good and as quick.
    """

    label: str
    options: str
    probe: float | None = None
    folded: float | None = None
    logme: float | None = None
    finetuned: float | None = None
    epochs: int | None = None
    score: tuple[float, ...] = ()
    parameters: int | None = None
    latency: float | None = None
    megabytes: float | None = None
    seconds: float = 0.0
    left_out: str = ""
    front: bool = False

    @property
    def base(self) -> float | None:
        """The metric of the solved head that ranks: over folds, or on the validation part."""
        return self.probe if self.folded is None else self.folded

    @property
    def value(self) -> float | None:
        """The metric of the best model there is of it.

        Over folds: with what fine-tuning gained on the validation part, since the difference of two
        models of one backbone on the same images varies less than how hard these images are.
        """
        if self.finetuned is None:
            return self.base
        if self.folded is None:
            return self.finetuned
        # A share ends at 1; an error may be above it, and fine-tuning only lowers that.
        return min(max(1.0, self.folded), self.folded + self.gain)

    @property
    def gain(self) -> float:
        """What fine-tuning changed in the metric on the validation part."""
        return 0.0 if self.finetuned is None else self.finetuned - self.probe


@dataclass
class Comparison:
    """Backbones in order, the best first, those left out last.

    Attributes:
        data: name of the data.
        metric: name of the task's metric, such as `accuracy`.
        validation: number of images in the validation part.
        training: number of images in the training part.
        entries: the backbones.
        test: metrics of the first in rank on the test part, not used for the ranking; None without
            one.
        notes: what was left out for want of time, beside whole backbones.
        budget, seconds: the time allowed and taken.
        headline: what a person wants to know first of `test`.
    """

    data: str
    metric: str
    validation: int
    training: int
    entries: list[Entry]
    test: dict[str, Any] | None
    notes: list[str]
    budget: float
    seconds: float
    headline: str = ""

    def __post_init__(self):
        done = [entry for entry in self.entries if not entry.left_out]
        self.entries.sort(key=lambda e: (bool(e.left_out), tuple(-x for x in e.score)))
        for entry in done:
            entry.front = not any(_dominates(other, entry) for other in done)

    @property
    def best(self) -> Entry:
        """The first in rank."""
        return self.entries[0]

    @property
    def ranked_on(self) -> int:
        """Number of images that ranked, with those of the folds."""
        return self.validation + (0 if self.best.folded is None else self.training)

    @property
    def images(self) -> str:
        """What ranked, for a person."""
        kind = "validation images" if self.best.folded is None else "images, by folds"
        return f"{self.ranked_on:,} {kind}"

    @property
    def measured(self) -> str:
        """What the columns `probe` and `tuned` of the table are, for a person."""
        if self.best.folded is None:
            return f"probe, tuned: {self.metric} on the validation part"
        return (
            f"probe, tuned: {self.metric} by folds of the training and the validation part, with "
            "what tuning gained on the latter; each by itself: compare.csv (--out DIR)"
        )

    @property
    def standard_error(self) -> float | None:
        """Of the best accuracy, 0 to 1; None where the metric is no share of images.

        Over folds, a gain on the validation part adds its own: it comes from at least as many
        images, of that part alone, as it is worth.
        """
        if self.metric != "accuracy":
            return None
        p = self.best.value
        variance = p * (1 - p) / self.ranked_on
        if self.best.folded is not None:
            variance += abs(self.best.gain) / self.validation
        return math.sqrt(variance)

    @property
    def equals(self) -> list[Entry]:
        """Those within one standard error of the best: what this many images cannot tell apart.

        The one-standard-error rule of Breiman et al. 1984, section 3.4.3.
        """
        error = self.standard_error
        return [
            entry
            for entry in self.entries[1:]
            if error is not None and not entry.left_out and entry.value >= self.best.value - error
        ]

    def to_json(self) -> dict[str, Any]:
        """Return `compare.json`."""
        return {
            "data": self.data,
            "metric": self.metric,
            "validation_examples": self.validation,
            "ranked_on_examples": self.ranked_on,
            "standard_error": self.standard_error,
            "backbones": [_row(entry) for entry in self.entries],
            "best": self.best.label,
            "not_told_apart": [entry.label for entry in self.equals],
            "test": self.test,
            "notes": self.notes,
            "budget_seconds": self.budget,
            "seconds": round(self.seconds, 1),
        }

    def to_csv(self) -> str:
        """Return `compare.csv`: a row for each backbone.

        `ranked` is the metric that the order goes by, that of the table; `COLUMNS` says on what the
        others were measured.
        """
        text = io.StringIO()
        rows = [
            {COLUMNS.get(name, name): value for name, value in (_row(e) | _ranked(e)).items()}
            for e in self.entries
        ]
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def table(self) -> Table:
        """Return the table that a person sees, 80 columns wide; `*`: on the Pareto front."""
        columns = ("probe", "LogME", "tuned", "epochs", "params", "MB", "ms")
        table = Table("backbone", box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for e in self.entries:
            if e.left_out:
                continue
            table.add_row(
                _lines(e.label),
                f"{e.base:.3f}",
                "-" if e.logme is None else f"{e.logme:.3f}",
                "" if e.finetuned is None else f"{e.value:.3f}",
                "" if e.epochs is None else str(e.epochs),
                f"{e.parameters / 1e6:.2f}M",
                f"{e.megabytes:.1f}",
                f"{e.latency:.1f} {'*' if e.front else ' '}",
            )
        return table

    def write(self, folder: Path) -> None:
        """Write compare.json, compare.csv and pareto.png into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        files = RunFolder(folder)
        files.write_json("compare.json", self.to_json())
        files.write_text("compare.csv", self.to_csv())
        draw_pareto(self.entries, self.metric, folder / "pareto.png")


def _ranked(entry: Entry) -> dict[str, float | None]:
    return {"ranked": None if entry.left_out else entry.value}


def _row(entry: Entry) -> dict[str, Any]:
    row = asdict(entry)
    del row["score"]
    return {"backbone": row.pop("label"), **row}


def _lines(label: str) -> str:
    """Return a backbone with each of its arguments on a line of its own."""
    name, *arguments = re.split(r"[:,](?=\w+=)", label)
    return "\n  ".join([name, *arguments])


def _dominates(one: Entry, other: Entry) -> bool:
    """Tell whether `one` is as good and as quick as `other`, and better in one of both."""
    mine, theirs = (one.score[0], one.latency), (other.score[0], other.latency)
    return mine[0] >= theirs[0] and mine[1] <= theirs[1] and mine != theirs


def draw_pareto(entries: Sequence[Entry], metric: str, path: Path) -> None:
    """Draw the metric against the latency, the front as a line."""
    done = [entry for entry in entries if not entry.left_out]
    with lettering(entry.label for entry in done) as shown:
        _pareto(done, metric, shown, path)


def _pareto(done: list[Entry], metric: str, shown: Callable[[str], str], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    front = sorted((e for e in done if e.front), key=lambda e: e.latency)
    axes.plot([e.latency for e in front], [e.value for e in front], "-", color="tab:blue", zorder=1)
    # Neighbours in latency have their names on opposite sides, so that few overlap.
    for number, entry in enumerate(sorted(done, key=lambda e: e.latency)):
        colour, above = "tab:blue" if entry.front else "tab:gray", number % 2 == 0
        axes.scatter([entry.latency], [entry.value], color=colour, zorder=2)
        axes.annotate(
            shown(_lines(entry.label)),
            (entry.latency, entry.value),
            xytext=(4, 5 if above else -5),
            textcoords="offset points",
            verticalalignment="bottom" if above else "top",
            fontsize=8,
            color=colour,
        )
    axes.margins(x=0.2, y=0.25)
    axes.set_xlabel("milliseconds an image, one at a time")
    axes.set_ylabel(metric)
    axes.set_title("on the line: no other is both as good and as quick")
    save_figure(figure, path)
