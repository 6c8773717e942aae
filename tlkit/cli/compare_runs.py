"""`tlkit compare-runs`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import out_option, output
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run
from tlkit.places import check_free
from tlkit.progress import Progress


@click.command(
    epilog=examples(
        "tlkit compare-runs runs/first runs/second",
        "tlkit compare-runs runs/* --out compared/",
    )
)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("A new or empty folder for compare_runs.json and compare_runs.html, with curves.")
@click.option("--json", "as_json", is_flag=True, help="Print compare_runs.json.")
def compare_runs(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare finished RUNS on the images that all of them were tested on.

    Pair by pair: the difference with its interval (paired bootstrap), how many images one alone
    has right, and whether chance explains it (exact McNemar test; p-values adjusted by Holm).
    """
    for run in runs:
        check_run(run)
    if out:
        check_free(out)
    with output(as_json) as (progress, show):
        import_tensorflow()
        import tlkit

        found = tlkit.compare_runs(runs, out=out, progress=progress).to_json()
        if as_json:
            show(found)
        else:
            _show(found, progress)
        if out is not None:
            progress.say("compared", f"{out}: compare_runs.html, compare_runs.json")


def _show(found: dict[str, Any], progress: Progress) -> None:
    from rich.table import Table
    from rich.text import Text

    from tlkit.reporting.page import number
    from tlkit.reporting.paired import ends
    from tlkit.reporting.runs_page import PAIR_COLUMNS, pair_row

    table = Table("run", "backbone", "regime", found["score"], "95%", "seconds")
    for row in found["runs"]:
        cells = (row["run"], row["backbone"], row["regime"], row["value"])
        rest = (ends(row["interval95"]), row["seconds"])
        table.add_row(*(Text(number(cell)) for cell in (*cells, *rest)))
    progress.say("runs", f"on {found['images']:,} images that are in all test parts")
    progress.console.print(table)
    table = Table(*PAIR_COLUMNS)
    for pair in found["pairs"]:
        table.add_row(*(Text(number(cell)) for cell in pair_row(pair)))
    progress.console.print(table)
