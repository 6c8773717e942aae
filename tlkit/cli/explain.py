"""`tlkit explain`: where in an image an answer comes from."""

from __future__ import annotations

from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import out_option, output
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run
from tlkit.places import check_free


@click.command(
    epilog=examples(
        "tlkit explain runs/first photo.jpg --out maps/",
        "tlkit explain runs/first images/ --label daisy --out maps/",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("items", metavar="FILES_OR_FOLDERS...", nargs=-1, required=True)
@out_option("A new or empty folder for a PNG file of each image.", required=True)
@click.option("--label", metavar="NAME", help="What is explained. [default: the most probable]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list in the order given.")
def explain(run: Path, items: tuple[str, ...], out: Path, label: str | None, as_json: bool) -> None:
    """Show where in images RUN's answers come from, as maps laid over them.

    Red: the places that speak most for the answer. With a head that is linear on average-pooled
    features, the default, the map is exact (CAM); with others it is Grad-CAM.
    """
    check_run(run)
    check_free(out)
    with output(as_json) as (progress, show):
        import_tensorflow()
        import tlkit

        rows = tlkit.explain(run, items, out, label=label, progress=progress)
        if as_json:
            show(rows)
        else:
            for row in rows:
                said = row["error"] or f"{row['explained']}: {out / row['overlay']}"
                progress.say("left out" if row["error"] else "", f"{row['path']}: {said}")
