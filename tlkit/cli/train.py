"""`tlkit train` and `tlkit plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.flags import SpecCommand, spec_options
from tlkit.cli.options import (
    by_place,
    check_loudness,
    found_places,
    nested,
    output,
    quiet_option,
    say_replaced,
    spec_fields,
    verbose_option,
)
from tlkit.cli.quiet import import_tensorflow
from tlkit.errors import SpecError
from tlkit.places import check_free
from tlkit.progress import Progress
from tlkit.spec.read import make_spec, merge


@click.command(
    cls=SpecCommand,
    epilog=examples(
        "tlkit train flowers/",
        "tlkit train flowers/ --backbone ResNet50 --regime medium --out runs/first",
        "tlkit train --recipe recipes/last-blocks.yaml flowers/",
        "tlkit train flowers/ --budget 2m",
        "tlkit train --resume runs/first",
    ),
)
@click.argument("data", required=False)
@spec_options
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run that was stopped, killed or out of disk, as if it had not been; out of "
    "memory, with a smaller --batch-size.",
)
@quiet_option
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print metrics.json on standard output.")
def train(
    data: str | None,
    recipe: Path | None,
    settings: tuple[str, ...],
    resume: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train on DATA and test the result.

    DATA is a folder of class folders, a folder with train, validation (val, valid) and test
    folders, a zip file of such a folder, a CSV file with the columns image and label (and split,
    if wanted; for boxes also x1, y1, x2 and y2), a folder of images beside one of masks, a folder
    with boxes as Pascal VOC, COCO or YOLO annotations, or tfds:NAME[/config][:split]; parts that
    are missing are split off. The result is a run folder with the model, its metrics, predictions,
    drawings and learning curves.
    """
    check_loudness(quiet, verbose)
    changes = _changes(data, recipe, settings, options) if resume else {}
    with output(as_json, quiet, verbose) as (progress, show):
        run = (
            _resume(resume, changes, progress)
            if resume
            else _train(spec_fields(data, recipe, settings, options), progress)
        )
        if as_json:
            show(run.metrics)
        elif quiet:
            show(run.folder)
        else:
            say_next(run.folder, progress)


def _train(fields: dict[str, Any], progress: Progress):
    if fields.get("out"):
        check_free(Path(fields["out"]), resumable=True)
    import_tensorflow()
    from tlkit.commands import train as run

    return run.train(fields.pop("data", None), progress=progress, **fields)


def _changes(
    data: str | None, recipe: Path | None, settings: tuple[str, ...], options: dict[str, Any]
) -> dict[str, Any]:
    """Return what a resumed run may change: how it is computed, not what.

    Raises:
        SpecError: something else is given.
    """
    settings, given = found_places(settings), by_place(options)
    say_replaced(given, settings)
    given = merge(nested(given), settings)
    others = {"DATA": data, "--recipe": recipe}
    names = [*(name for name, value in others.items() if value is not None), *given]
    if refused := [name for name in names if name != "batch_size"]:
        raise SpecError(
            "--resume: the run knows its other options. Allowed beside it: --batch-size N. "
            f"Received: {', '.join(refused)}"
        )
    if given:
        make_spec(given)  # a wrong number is answered before TensorFlow's seconds of import
    return given


def _resume(folder: Path, changes: dict[str, Any], progress: Progress):
    import_tensorflow()
    from tlkit.commands import train as run

    return run.resume(folder, progress, **changes)


def say_next(folder: Path | str, progress: Progress, first: str | None = None) -> None:
    """Print the commands that a person would type next with a run folder; `first` before them."""
    commands = [f"tlkit predict {folder} photo.jpg", f"tlkit export {folder} --format savedmodel"]
    for i, command in enumerate([first, *commands] if first else commands):
        progress.say("" if i else "next", command)


@click.command(
    cls=SpecCommand,
    epilog=examples(
        "tlkit plan flowers/ --freeze until=block_9",
        "tlkit plan flowers/ --measure",
    ),
)
@click.argument("data", required=False)
@spec_options
@click.option(
    "--measure",
    is_flag=True,
    help="Estimate from timed batches of the real network (seconds) instead of by a rule.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    data: str | None,
    recipe: Path | None,
    settings: tuple[str, ...],
    measure: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what train would do with DATA and the same options, and why; trains nothing.

    Seconds, memory and disk are estimates, from an empty feature cache and with all epochs.
    """
    fields = spec_fields(data, recipe, settings, options)
    with output(as_json) as (progress, show):
        import_tensorflow()
        from tlkit.commands import train as run

        data = fields.pop("data", None)
        made = run.plan(data, measure=measure, progress=progress, **fields)
        if as_json:
            show(made.to_json())
        else:
            _show_plan(made, progress)


def _show_plan(made, progress: Progress) -> None:
    from rich.table import Table

    progress.say("regime", f"{made.regime.value} ({made.regime.reason})")
    for phase in made.phases:
        progress.say(phase.name, f"{phase.describe()}; BatchNorm {phase.freeze.batchnorm}")
        for reason in phase.reasons:
            progress.say("", f"  {reason}")
    last = made.phases[-1].freeze
    table = Table("block", "layers", "parameters", "state", "BatchNorm")
    for row in last.table():
        norm = (
            "-" if not row.batchnorms else ("frozen" if row.state == "frozen" else last.batchnorm)
        )
        table.add_row(row.block, str(row.layers), f"{row.parameters:,}", row.state, norm)
    progress.console.print(table)
    _show_estimate(made.estimate, progress)


def _show_estimate(estimate: dict[str, Any], progress: Progress) -> None:
    for phase in estimate["phases"]:
        progress.say("estimate", f"{phase['name']}: {_amounts(phase)}")
    how = "timed batches" if estimate["measured"] else "a rule"
    progress.say("", f"in all: {_amounts(estimate)}, run folder included; by {how}")


def _amounts(row: dict[str, Any]) -> str:
    low, high = row["seconds"]
    memory, disk = row["memory"] / 2**20, row["disk"] / 2**20
    return f"{low:.0f}-{high:.0f} s, {memory:,.0f} MiB of memory, {disk:,.0f} MiB of disk"
