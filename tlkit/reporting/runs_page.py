"""The page of `tlkit compare-runs`: a table of runs, of pairs, and the course of each training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlkit.reporting.page import template
from tlkit.reporting.paired import ends
from tlkit.reporting.svg import Axis, Line, plot


def render_runs(found: Mapping[str, Any], logs: Sequence[Sequence[Mapping[str, str]]]) -> str:
    """Return the page's HTML.

    Args:
        found: the content of `compare_runs.json`.
        logs: of each run the rows of log.csv.
    """
    score = found["score"]
    runs = [
        (r["run"], r["backbone"], r["regime"], r["value"], ends(r["interval95"]), r["seconds"])
        for r in found["runs"]
    ]
    names = [row["run"] for row in found["runs"]]
    return template("runs.jinja").render(
        found=found,
        run_columns=("run", "backbone", "regime", score, "95%", "seconds"),
        runs=runs,
        pair_columns=PAIR_COLUMNS,
        pairs=[pair_row(pair) for pair in found["pairs"]],
        curves=list(zip(names, map(_curve, logs), strict=True)),
    )


PAIR_COLUMNS = ("runs", "difference", "95%", "only first right", "only second", "p", "p (Holm)", "")


def pair_row(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the row of a pair in a table, under `PAIR_COLUMNS`."""
    first, second = pair["runs"]
    return (
        f"{first} - {second}",
        pair["difference"],
        ends(pair["interval95"]),
        pair["only_first_right"],
        pair["only_second_right"],
        pair["p"],
        pair["p_holm"],
        "told apart" if pair["told_apart"] else "not told apart",
    )


def _curve(log: Sequence[Mapping[str, str]]) -> Any:
    """Return the validation metric over the rows of log.csv; None without any."""
    names = [name for name in (log[0] if log else ()) if f"val_{name}" in log[0]]
    if not names:
        return None
    name, at = names[-1], list(range(1, len(log) + 1))
    lines = [
        Line(called, at, [float(row[key]) for row in log])
        for called, key in (("training", name), ("validation", f"val_{name}"))
    ]
    return plot(lines, Axis("row of log.csv"), Axis(name), f"{name} over the rows of log.csv")
