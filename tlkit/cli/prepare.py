"""`tlkit data prepare`: a data set for more images than memory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.flags import field_option
from tlkit.cli.options import spec_fields
from tlkit.cli.quiet import import_tensorflow
from tlkit.progress import Progress


@click.command(
    epilog=examples(
        "tlkit data prepare flowers/ prepared/",
        "tlkit train prepared/",
        "tlkit data prepare scenes.csv prepared/ --set task=multilabel",
    )
)
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path))
@field_option("val")
@field_option("test")
@field_option("seed")
@click.option("--strict", is_flag=True, default=None, help="Stop at a file that cannot be decoded.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set task, a field of table, group, rare, near_duplicates, alpha, bits, resize, "
    "image_size or backbone.name, as for train, such as task=multilabel.",
)
def prepare(data: str, out: Path, settings: tuple[str, ...], **options: Any) -> None:
    """Write DATA into the folder OUT as a sharded data set of TensorFlow Datasets.

    DATA is anything that train takes; parts that are missing are split off as train does. The
    images go into OUT as they are, byte for byte; broken files are left out and listed in
    OUT/tlkit.json. Training on OUT streams the images in a new order in each epoch, and scans
    nothing again; with --set task=... it takes the same setting as this command. Masks go along
    as they are, boxes in the frame of the upright image; their task is found again in OUT.
    """
    fields = spec_fields(data, None, settings, options, "data prepare")
    import_tensorflow()
    from tlkit.commands.train import prepare_data

    progress = Progress()
    prepare_data(fields.pop("data"), out, progress=progress, **fields)
    progress.say("next", f"tlkit train {out}")
