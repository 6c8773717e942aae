"""`tlkit report`: one HTML file with all that a person looks at of a run."""

from __future__ import annotations

from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import output
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run


@click.command(epilog=examples("tlkit report runs/first", "tlkit report runs/first --audit"))
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--audit",
    is_flag=True,
    help="Hold each label against heads solved without its image, in five folds; also writes "
    "label_audit.csv, a list to look at.",
)
@click.option(
    "--maps",
    is_flag=True,
    help="Beside the images of mistakes show where their answers come from, see tlkit explain.",
)
def report(run: Path, audit: bool, maps: bool) -> None:
    """Write report.html into RUN's folder; a training has done so at its end.

    One file that opens without a network: figures with intervals, confusion matrix whose cells
    lead to their images, mistakes, calibration, curves, plan, data, environment.
    """
    check_run(run)
    with output(False) as (progress, _):
        import_tensorflow()
        import tlkit

        tlkit.report(run, audit=audit, maps=maps, progress=progress)
