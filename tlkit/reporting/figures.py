"""What a training leaves behind for a person to look at: learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tlkit.tasks.drawing import save_figure


def draw_curves(log: Sequence[dict[str, str]], path: Path) -> None:
    """Draw loss and, if there is one, metric of each phase in `log.csv`, one column a phase.

    The horizontal axis of a fitted phase is the epoch, of a solved head the L2 strength.
    """
    metrics = [name for name in log[0] if f"val_{name}" in log[0]]  # the loss, and one if any
    phases = list(dict.fromkeys(row["phase"] for row in log))
    figure = Figure(figsize=(4.5 * len(phases), 6), layout="constrained")
    grid = figure.subplots(len(metrics), len(phases), squeeze=False)
    for column, phase in enumerate(phases):
        rows = [row for row in log if row["phase"] == phase]
        solved = bool(rows[0]["l2"])
        at = [float(row["l2" if solved else "epoch"]) for row in rows]
        for axes, name in zip(grid[:, column], metrics, strict=True):
            axes.plot(at, [float(r[name]) for r in rows], ".-", label="training")
            axes.plot(at, [float(r[f"val_{name}"]) for r in rows], ".-", label="validation")
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
            if solved:
                axes.set_xscale("log")
                axes.minorticks_off()  # they take as long to draw as all the rest
                axes.invert_xaxis()  # the path goes from strong to weak
        grid[0, column].set_title(phase)
        grid[-1, column].set_xlabel("L2 strength (solved)" if solved else "epoch")
    grid[0, 0].legend()
    save_figure(figure, path)
