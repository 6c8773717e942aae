"""`tlkit compare`: which backbone for these images."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.flags import SpecCommand, spec_options
from tlkit.cli.options import as_words, out_option, output, quiet_option, spec_fields
from tlkit.cli.quiet import import_tensorflow
from tlkit.errors import SpecError
from tlkit.progress import Progress


@click.command(
    cls=SpecCommand,
    epilog=examples(
        "tlkit compare flowers/ --backbones MobileNetV2,EfficientNetLite0",
        "tlkit compare flowers/ --backbones MobileNet:alpha=0.25,image_size=128,VGG16 --budget 5m",
        "tlkit compare flowers/ --backbones MobileNetV2,ResNet50 --regime small --out compared/",
    ),
)
@click.argument("data", required=False)
@click.option(
    "--backbones",
    required=True,
    multiple=True,
    metavar="A,B,...",
    help="Names of the catalog or models of your own, each with arguments if wanted: "
    "NAME:KEY=VALUE,KEY=VALUE (image_size, alpha, weights, cut, preprocessing). May be repeated.",
)
@click.option(
    "--budget",
    default="2m",
    show_default=True,
    metavar="TIME",
    help="Time allowed, such as 90s, 2m, 1h; what does not fit is left out, and said.",
)
@functools.partial(spec_options, without=("backbone.name", "budget", "out", "init"))
@out_option("A new or empty folder for compare.json, compare.csv and pareto.png.")
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print compare.json on standard output.")
def compare(
    data: str | None,
    backbones: tuple[str, ...],
    budget: str,
    recipe: Path | None,
    settings: tuple[str, ...],
    out: Path | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare backbones on DATA: accuracy, speed and size, within a time budget.

    Each gets a head solved on its frozen features; the better half is then fine-tuned as with
    --regime medium, with as many epochs as there is time for (--regime small: none is). The
    validation part ranks; where it has fewer than 500 images, folds of it and the training part
    do, lest a few images decide. The test part is measured for the first in rank alone. probe,
    tuned: the metric that ranks; LogME: log evidence of the features, higher is better; ms: an
    image, one at a time, on this device; MB: the saved model; *: no other is both as good and as
    quick.
    """
    from tlkit.commands.compare.candidates import read_candidates, read_seconds

    fields = spec_fields(data, recipe, settings, options, "compare")
    typed = as_words(fields["data"], recipe, settings, options)
    read_seconds(budget)
    if "budget" in fields:
        raise SpecError(
            "budget: in a recipe or --set is the time of one training. Allowed with compare: "
            f"--budget, the time for all. Received: {fields['budget']!r}"
        )
    for candidate in read_candidates(backbones):  # before TensorFlow's seconds of import
        candidate.spec(fields)
    started = time.monotonic()
    with output(as_json, quiet) as (progress, show):
        import_tensorflow()
        from tlkit.commands.compare.compare import compare

        data = fields.pop("data", None)
        asked = {"budget": budget, "out": out, "started": started, "progress": progress}
        found = compare(data, backbones, **asked, **fields)
        if as_json:
            show(found.to_json())
        elif quiet:
            show(found.best.label)
        else:
            _show(found, out, typed, progress)


def _show(found, out: Path | None, typed: str, progress: Progress) -> None:
    progress.console.print(found.table())
    progress.say("", found.measured)
    best, error = found.best, found.standard_error
    spread = "" if error is None else f", standard error {error:.3f}"
    value = f"{found.metric} {best.value:.3f} of {found.images}{spread}"
    progress.say("best", f"{best.label}: {value}")
    if found.equals:
        names = ", ".join(entry.label for entry in found.equals)
        progress.say("", f"not told apart from it (one standard error): {names}")
        quick = min([best, *found.equals], key=lambda entry: entry.latency)
        progress.say("", f"the quickest of these: {quick.label}, {quick.latency:.1f} ms an image")
    if found.test:
        progress.say("test", f"{best.label}: {found.headline}; not used for the ranking")
    progress.say("took", f"{found.seconds:.0f} s of {found.budget:.0f} s")
    if out is not None:
        progress.say("compared", f"{out}: compare.json, compare.csv, pareto.png")
    progress.say("next", f"tlkit train {typed} {best.options}")
