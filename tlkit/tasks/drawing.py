"""What a person looks at of answers: confusion matrix, bars of labels, scatter of numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tlkit.atomic import write_file
from tlkit.places import DRAWN

LABELLED = 30
"""Up to this many classes the confusion matrix carries numbers and names."""


def draw_labels(per_class: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw F1 and average precision of each label as bars, the weakest label on top.

    A label that occurs in neither truth nor prediction has none; it stands at the bottom, marked.
    """

    def place(name: str) -> float:
        f1 = per_class[name]["f1"]
        return -2.0 if f1 is None else -f1

    def text(name: str) -> str:
        absent = per_class[name]["f1"] is None
        return _shortened(name) + (" (does not occur)" if absent else "")

    names = sorted(per_class, key=place)
    figure = Figure(figsize=(7, 1.5 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    for shift, key in ((0.2, "f1"), (-0.2, "average_precision")):
        values = [per_class[name][key] or 0 for name in names]
        axes.barh(np.arange(len(names)) + shift, values, height=0.38, label=key.replace("_", " "))
    axes.set_yticks(range(len(names)), map(text, names))
    axes.set_xlim(0, 1)
    axes.legend(loc="lower left")
    save_figure(figure, path)


def _shortened(label: str) -> str:
    """Return a label that leaves room for the drawing."""
    return label if len(label) <= 32 else f"{label[:29]}..."


def draw_scatter(
    targets: np.ndarray, outputs: np.ndarray, names: Sequence[str], path: Path
) -> None:
    """Draw predicted against true numbers, one square for each, with the line of equality."""
    figure = Figure(figsize=(4.5 * len(names), 4.5), layout="constrained")
    grid = figure.subplots(1, len(names), squeeze=False)[0]
    for i, (axes, name) in enumerate(zip(grid, names, strict=True)):
        axes.scatter(targets[:, i], outputs[:, i], s=8, alpha=0.5)
        axes.axline((float(targets[:, i].mean()),) * 2, slope=1, color="black", linewidth=0.8)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.set_title(name)
    save_figure(figure, path)


def draw_confusion(
    confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draw rows of true classes against columns of predicted ones, shaded by share of the row.

    Args:
        title: what stands above; empty: accuracy, of one class an image.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(14.0, 3.5 + 0.45 * len(labels))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= LABELLED:
        names = [_shortened(label) for label in labels]
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=8)
    right = np.trace(counts) / max(1, counts.sum())
    axes.set_title(title or f"{counts.sum():,} images, accuracy {right:.3f}")
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write a figure as PNG in one step, marked as one that tlkit drew.

    Args:
        dpi: pixels an inch of the figure's size.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()
    figure.set_dpi(dpi)
    # `figure.savefig` lays out in a drawing of its own before: the same bytes, a quarter slower.
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": DRAWN})
    write_file(path, content.getvalue())
