"""What a training leaves behind for a person to look at: learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tlkit.lettering import lettering
from tlkit.tasks.drawing import save_figure

Row = dict[str, str]


def draw_curves(
    log: Sequence[Row], path: Path, title: str = "", best: dict[str, float] | None = None
) -> None:
    """Draw loss and, if there is one, metric of each phase in `log.csv`, one column a phase.

    The horizontal axis of a fitted phase is the epoch, of a solved head the L2 strength.

    Args:
        title: above all of it, such as the run's name.
        best: validation loss and metric of the delivered model, whose point is marked; None, or of
            no row (a run may deliver what it started from): none is.
    """
    metrics = [name for name in log[0] if f"val_{name}" in log[0]]  # the loss, and one if any
    phases = list(dict.fromkeys(row["phase"] for row in log))
    figure = Figure(figsize=(max(6.0, 4.5 * len(phases)), 6), layout="constrained")
    grid = figure.subplots(len(metrics), len(phases), squeeze=False, sharey="row")
    chosen = _chosen(log, best)
    for column, phase in enumerate(phases):
        rows = [row for row in log if row["phase"] == phase]
        for axes, name in zip(grid[:, column], metrics, strict=True):
            _draw_phase(axes, rows, name, chosen)
            axes.set_ylabel(name.replace("_", " ") if column == 0 else "")
        grid[0, column].set_title(phase)
        grid[-1, column].set_xlabel("L2 strength (solved)" if rows[0]["l2"] else "epoch")
    grid[0, 0].legend()
    with lettering([title]) as shown:
        figure.suptitle(shown(title))
        save_figure(figure, path)


def _chosen(log: Sequence[Row], best: dict[str, float] | None) -> Row | None:
    """Return the first row whose validation figures are those of the delivered model."""
    if best is None:
        return None
    wanted = {f"val_{name}": f"{value:.6g}" for name, value in best.items()}
    return next((row for row in log if wanted.items() <= row.items()), None)


def _draw_phase(axes: Axes, rows: Sequence[Row], name: str, chosen: Row | None) -> None:
    along = "l2" if rows[0]["l2"] else "epoch"
    at = [float(row[along]) for row in rows]
    for part, key in (("training", name), ("validation", f"val_{name}")):
        if rows[0][key]:  # of a metric of whole parts training has none
            axes.plot(at, [float(row[key]) for row in rows], ".-", label=part)
    if chosen in rows:
        point = float(chosen[along]), float(chosen[f"val_{name}"])
        axes.plot(*point, "o", ms=11, mfc="none", mec="black", mew=1.5, label="chosen")
        axes.annotate(f"{point[1]:.3g}", point, (0, 9), textcoords="offset points", ha="center")
    axes.grid(alpha=0.3)
    axes.margins(y=0.15)
    if along == "l2":
        axes.set_xscale("log")
        axes.minorticks_off()  # they take as long to draw as all the rest
        axes.invert_xaxis()  # the path goes from strong to weak
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
