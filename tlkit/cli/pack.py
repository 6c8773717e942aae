"""`tlkit pack`: a run for somebody else."""

from __future__ import annotations

from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import out_option
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run
from tlkit.progress import Progress


@click.command(epilog=examples("tlkit pack runs/first", "tlkit pack runs/first -o first.zip"))
@click.argument("run", type=click.Path(path_type=Path))
@out_option("A new file [default: NAME.zip beside the run folder].", "FILE.zip")
def pack(run: Path, out: Path | None) -> None:
    """Write RUN into one zip file: model, labels, metrics, without checkpoints and logs.

    Unpacked, it is a run folder that evaluate, predict and export take.
    """
    check_run(run)
    import_tensorflow()
    import tlkit

    opened = tlkit.open_run(run)
    path = opened.pack(out)
    size = path.stat().st_size / 2**20
    Progress().say("packed", f"{path}: {size:,.1f} MiB, without checkpoints, logs and exports")
