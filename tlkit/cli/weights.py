"""`tlkit weights`: the files of ImageNet weights, on disk and elsewhere."""

from __future__ import annotations

import click

from tlkit.cli.examples import examples
from tlkit.errors import WeightsError, did_you_mean
from tlkit.progress import Progress


@click.group(
    epilog=examples(
        "tlkit weights fetch MobileNetV2",
    )
)
def weights() -> None:
    """List, fetch and verify files of ImageNet weights."""


@weights.command(
    "list",
    epilog=examples(
        "tlkit weights list",
    ),
)
def list_() -> None:
    """List the files that are on disk, and where."""
    from tlkit.backbones.weights import models_folder, on_disk

    progress = Progress()
    found = on_disk()
    progress.say("folder", str(models_folder()))
    for row, file in found:
        progress.say("file", f"{file.name}: {row.name}{' with top' if file.top else ''}")
    if not found:
        progress.say("", "no weights of the catalog; get some with: tlkit weights fetch NAME")


@weights.command(
    epilog=examples(
        "tlkit weights fetch ResNet50",
        "tlkit weights fetch FILE.h5",
    )
)
@click.argument("name")
@click.option("--top", is_flag=True, help="The file with the classifier of 1,000 classes.")
def fetch(name: str, top: bool) -> None:
    """Get the weights of NAME, a backbone or a file's name, into Keras's folder."""
    from tlkit.backbones.catalog import CATALOG, lookup
    from tlkit.backbones.weights import fetch, file_for, file_named

    file = file_named(name)
    if file is None and name.endswith(".h5"):
        names = [f.name for row in CATALOG.values() for f in row.weights]
        raise WeightsError(f"weights: no such file.{did_you_mean(name, names)} Received: {name}")
    if file is not None and top:
        raise WeightsError(
            f"--top: has no effect, {name} is one file. Allowed: with a backbone's name, such as "
            "MobileNetV2. Received: --top"
        )
    file = file or file_for(lookup(name), {"include_top": top})
    if file is None:
        raise WeightsError(f"weights of {name}: come in a package of their own, see README")
    progress = Progress()
    progress.say("fetch", file.name)
    progress.say("file", str(fetch(file)))


@weights.command(
    epilog=examples(
        "tlkit weights verify",
    )
)
def verify() -> None:
    """Compare the files on disk with the hashes that Keras states."""
    from tlkit.backbones.weights import is_whole, models_folder, on_disk

    progress = Progress()
    bad = []
    for _, file in on_disk():
        whole = is_whole(models_folder() / file.name, file)
        said = {True: "as Keras states", False: "DIFFERS", None: "Keras states no hash"}[whole]
        progress.say("file", f"{file.name}: {said}")
        if whole is False:
            bad.append(file.name)
    if bad:
        raise WeightsError(f"weights: not what Keras states the hash of: {', '.join(bad)}")
