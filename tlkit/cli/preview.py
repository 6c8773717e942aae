"""`tlkit data preview`: what training will see."""

from __future__ import annotations

from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import spec_fields
from tlkit.cli.quiet import import_tensorflow
from tlkit.progress import Progress


@click.command(
    epilog=examples(
        "tlkit data preview flowers/ --set augment=strong",
        "tlkit data preview digits/ --set augment=medium --set mirror=false --out seen.png",
    )
)
@click.argument("source", metavar="DATA", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("preview.png"),
    show_default=True,
    metavar="FILE.png",
    help="The image to write; one that an earlier call drew is replaced.",
)
@click.option("--images", type=int, default=8, show_default=True, help="Rows of the grid.")
@click.option("--pictures", type=int, hidden=True)
@click.option("--draws", type=int, default=6, show_default=True, help="Draws of each image.")
@click.option(
    "--recipe", type=click.Path(path_type=Path), metavar="FILE", help="Read options from a recipe."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set augment, mirror, mixup, cutmix, balance, seed, image_size, resize, or what says how "
    "DATA is read and split, as for train.",
)
def preview(
    source: str | None,
    out: Path,
    images: int,
    pictures: int | None,
    draws: int,
    recipe: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Draw what training will see of some images in DATA.

    Each row of the PNG shows an image as it is, then as in several epochs: changed at random
    (augment, mirror), mixed with the row above (mixup, cutmix), its target below it.
    """
    if pictures is not None:
        images = pictures
        click.echo(f"{'note':<10}--pictures is called --images from this version on", err=True)
    fields = spec_fields(source, recipe, settings, {}, "data preview")
    import_tensorflow()
    from tlkit.commands import train as run

    run.preview(
        fields.pop("data", None), out, images=images, draws=draws, progress=Progress(), **fields
    )
