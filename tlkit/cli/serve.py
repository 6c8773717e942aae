"""`tlkit serve`: a run or an export that answers over HTTP."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.cli.options import quiet_option
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.use import check_run
from tlkit.errors import SpecError
from tlkit.progress import Progress
from tlkit.serving.limits import Limits
from tlkit.serving.located import bound, highest_version, name_of

EXTRA = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
"""Packages of the extra `serve`."""


@click.command(
    epilog=examples(
        "tlkit serve runs/first",
        "tlkit serve runs/first/export/savedmodel --name flowers --port 8080",
    )
)
@click.argument("model", metavar="RUN_OR_EXPORT", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0: whoever reaches this machine may ask.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="The default is TensorFlow Serving's; 0: any that is free.",
)
@click.option("--name", help="Of the model, in /v1/models/NAME. [default: the folder's]")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 256),
    default=Limits.batch,
    show_default=True,
    metavar="N",
    help="Most images that the network gets at once; 1: each by itself.",
)
@click.option(
    "--max-megabytes",
    type=click.IntRange(1, 2000),
    default=Limits.megabytes,
    show_default=True,
    metavar="N",
    help="Largest request.",
)
@click.option(
    "--max-megapixels",
    type=click.IntRange(1, 178),
    default=Limits.megapixels,
    show_default=True,
    metavar="N",
    help="Largest image, by its header.",
)
@quiet_option
def serve(
    model: Path,
    host: str,
    port: int,
    name: str | None,
    batch_size: int,
    max_megabytes: int,
    max_megapixels: int,
    quiet: bool,
) -> None:
    """Answer images over HTTP with a run or an export: a page, uploads, TensorFlow Serving's REST.

    Ctrl-C or SIGTERM stops it: what was asked is answered before.
    """
    model = highest_version(model)
    check_run(model, export=True)
    name = name_of(name, model)
    if batch_size & (batch_size - 1):
        raise SpecError(f"--batch-size: must be a power of two. Received: {batch_size}")
    if missing := [each for each in EXTRA if importlib.util.find_spec(each) is None]:
        raise SpecError(
            f"serve: needs {' and '.join(missing)}, not installed here. Install: "
            "pip install 'tlkit[serve]'"
        )
    listening = bound(host, port)
    import_tensorflow()
    from tlkit.serving.server import serve as run

    limits = Limits(max_megabytes, max_megapixels, batch_size)
    run(model, listening, name, limits, Progress(quiet))
