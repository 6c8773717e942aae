"""What an evaluation leaves behind: a table of predictions, a confusion matrix, learning curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no window: the pictures go into files

from matplotlib.figure import Figure

LABELLED = 30
"""Up to this many classes the confusion matrix carries numbers and names."""


def predictions_csv(
    ids: Sequence[str], truth: Sequence[str], probabilities: np.ndarray, labels: Sequence[str]
) -> str:
    """Return `predictions.csv`: id, truth, prediction, a probability for each label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", *(f"p_{label}" for label in labels)])
    for id_, true, row in zip(ids, truth, probabilities, strict=True):
        writer.writerow([id_, true, labels[int(row.argmax())], *(f"{p:.6f}" for p in row)])
    return text.getvalue()


def draw_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draw rows of true classes against columns of predicted ones, shaded by share of the row."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(14.0, 3.5 + 0.45 * len(labels))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= LABELLED:
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=8)
    right = np.trace(counts) / max(1, counts.sum())
    axes.set_title(f"{counts.sum():,} pictures, accuracy {right:.3f}")
    figure.savefig(path, dpi=120)


def draw_curves(log: Sequence[dict[str, str]], path: Path) -> None:
    """Draw loss and accuracy of each phase in `log.csv`, one column a phase.

    The horizontal axis of a fitted phase is the epoch, of a solved head the L2 strength.
    """
    phases = list(dict.fromkeys(row["phase"] for row in log))
    figure = Figure(figsize=(4.5 * len(phases), 6), layout="constrained")
    grid = figure.subplots(2, len(phases), squeeze=False)
    for column, phase in enumerate(phases):
        rows = [row for row in log if row["phase"] == phase]
        solved = bool(rows[0]["l2"])
        at = [float(row["l2" if solved else "epoch"]) for row in rows]
        for axes, name in zip(grid[:, column], ("loss", "accuracy"), strict=True):
            axes.plot(at, [float(r[name]) for r in rows], ".-", label="training")
            axes.plot(at, [float(r[f"val_{name}"]) for r in rows], ".-", label="validation")
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
            if solved:
                axes.set_xscale("log")
                axes.invert_xaxis()  # the path goes from strong to weak
        grid[0, column].set_title(phase)
        grid[1, column].set_xlabel("L2 strength (solved)" if solved else "epoch")
    grid[0, 0].legend()
    figure.savefig(path, dpi=120)
