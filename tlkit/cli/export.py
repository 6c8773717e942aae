"""`tlkit export` and `bench`: writing a run's model for others to use, and what that is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.answers import network_options
from tlkit.cli.examples import examples
from tlkit.cli.options import out_option, output, quiet_option
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run
from tlkit.errors import ExportError
from tlkit.export.formats import FORMATS, find_export, lookup
from tlkit.places import check_there
from tlkit.progress import Progress


@click.command(
    epilog=examples(
        "tlkit export runs/first --format savedmodel --out served/",
        "tlkit export runs/first --format litert-int8",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    default="savedmodel",
    show_default=True,
    metavar="FORMAT",
    help="; ".join(f"{name}: {about.about}" for name, about in FORMATS.items()) + ".",
)
@out_option("A new folder [default: export/FORMAT in the run folder].")
@click.option(
    "--serving-version",
    type=click.IntRange(1),
    metavar="N",
    help="Write to DIR/N, as TensorFlow Serving reads it; savedmodel alone.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="X",
    help="Smallest agreement with the run on images that it did not train on; litert-int8 alone. "
    "[default: 0.99]",
)
@network_options
@quiet_option
def export(
    run: Path,
    kind: str,
    out: Path | None,
    serving_version: int | None,
    agreement: float | None,
    tta: str | None,
    views: int | None,
    raw: bool,
    quiet: bool,
) -> None:
    """Write RUN's model for serving, and check that it answers as the run does."""
    check_run(run)
    lookup(kind)
    import_tensorflow()
    import tlkit

    options = {"serving_version": serving_version, "agreement": agreement}
    asked = {"tta": tta, "views": views, "raw": raw, "progress": not quiet}
    path = tlkit.open_run(run).export(out, kind, **asked, **options)
    click.echo(str(path) if quiet else f"{'export':<10}{path}")


@click.command(
    epilog=examples("tlkit bench runs/first/export/onnx runs/first/export/litert --data new/")
)
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True, type=click.Path())
@click.option("--data", metavar="DATA", help="Labelled images to evaluate each on, as for train.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    metavar="N",
    help="Images given at once for the throughput.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures and metrics as JSON.")
def bench(exports: tuple[str, ...], data: str | None, batch_size: int, as_json: bool) -> None:
    """Time exports side by side: a single image, and batches; with --data, evaluate them too.

    The network alone is timed, on this machine, without decoding and resizing.
    """
    for path in map(Path, exports):
        if find_export(path) is None:
            raise ExportError(f"export {path}: is none. Allowed: what tlkit export wrote")
    if data is not None:
        check_there(data)
    with output(as_json) as (progress, show):
        import_tensorflow()
        from tlkit.export.bench import bench as measure

        rows = measure(exports, data, batch_size=batch_size, progress=progress)
        if as_json:
            show(rows)
        else:
            _show(rows, progress)


def _show(rows: list[dict[str, Any]], progress: Progress) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("export", overflow="fold", ratio=2), "format", "MB", "ms an image")
    table.add_column(f"images/s, batches of {rows[0]['batch_size']}")
    if rows[0]["headline"]:
        table.add_column("on the data", ratio=2)
    for row in rows:
        figures = [f"{row['megabytes']:.1f}", f"{row['latency_ms']:.2f}"]
        figures.append(f"{row['images_per_second']:.0f}")
        shown = [row["path"], row["format"], *figures]
        table.add_row(*map(Text, [*shown, *([row["headline"]] if row["headline"] else [])]))
    progress.console.print(table)
