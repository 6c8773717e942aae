"""`tlkit quickstart`: the main job on embedded images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import out_option
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.train import say_next
from tlkit.progress import Progress

# Also recipes/quickstart.yaml; a test holds that both are the same.
QUICKSTART: dict[str, Any] = {
    "data": "example:elpv",
    "backbone": "EfficientNetLite0",
    "regime": "small",
    "test": 0.25,
    "seed": 0,
}


@click.command(
    epilog=examples(
        "tlkit quickstart",
        "tlkit quickstart --data digits",
    )
)
@click.option(
    "--data",
    type=click.Choice(["elpv", "digits"]),
    default="elpv",
    show_default=True,
    help="Solar cells (intact or defective), or scikit-learn's handwritten digits.",
)
@out_option("The run folder [default: runs/DATA-BACKBONE-NNNN].")
def quickstart(data: str, out: Path | None) -> None:
    """Train, test and export on embedded images, no questions asked.

    EfficientNet-Lite0 stays frozen, a new head is trained on top of it; takes about a minute on
    two cores.
    """
    progress = Progress()
    progress.say("start", "loading TensorFlow")
    import_tensorflow()
    import tlkit
    from tlkit.data.readers.samples import ELPV_LICENCE

    if data == "elpv":
        progress.say("licence", ELPV_LICENCE)
    fields = {**QUICKSTART, "data": f"example:{data}"}
    run = tlkit.train(fields.pop("data"), out=out, progress=progress, **fields)
    exported = run.export(progress=progress)
    progress.say("export", f"{exported}: a SavedModel, images in, labels out")
    progress.say("", "On your own images, one folder for each class:")
    say_next("runs/my-images-mobilenetv2-0001", progress, "tlkit train my_images/")
