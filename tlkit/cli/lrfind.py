"""`tlkit lr-find`: a learning rate for the phase that is fitted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from tlkit.cli.examples import examples
from tlkit.cli.flags import SpecCommand, spec_options
from tlkit.cli.options import as_words, out_option, output, quiet_option, spec_fields
from tlkit.cli.quiet import import_tensorflow

_LATER = ("out", "epochs", "budget", "optimizer.learning_rate", "optimizer.patience")
"""What says how long to train, how fast, and where to: this is asked for here."""


@click.command(
    "lr-find",
    cls=SpecCommand,
    epilog=examples(
        "tlkit lr-find flowers/ --regime medium",
        "tlkit lr-find flowers/ --freeze last=3 --optimizer adam --out rates.png",
    ),
)
@click.argument("data", required=False)
@functools.partial(spec_options, without=_LATER)
@click.option("--steps", type=int, default=100, show_default=True, help="Training steps.")
@click.option("--lowest", type=float, default=1e-6, show_default=True, help="Rate to begin with.")
@click.option("--highest", type=float, default=1.0, show_default=True, help="Rate to end with.")
@out_option("Draw the curve here.", "FILE.png")
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print rates, losses and suggestion as JSON.")
def lr_find(
    data: str | None,
    recipe: Path | None,
    settings: tuple[str, ...],
    steps: int,
    lowest: float,
    highest: float,
    out: Path | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find a learning rate for the last phase of train with DATA and the same options.

    The head is solved first, as train does; then each step takes a higher rate, until the loss
    explodes (Smith 2017, section 3.3). Suggested is the highest rate whose smoothed loss is as low
    as the lowest, divided by ten. No model is kept.
    """
    fields = spec_fields(data, recipe, settings, options, "lr-find")
    typed = as_words(fields["data"], recipe, settings, options)
    with output(as_json, quiet) as (progress, show):
        import_tensorflow()
        from tlkit.commands.lr_find import lr_find as find

        test = {"steps": steps, "lowest": lowest, "highest": highest, "out": out}
        found = find(fields.pop("data", None), progress=progress, **test, **fields)
        if as_json:
            show(found.to_json())
            return
        if quiet:
            show(f"{found.suggestion:g}")
            return
        rule = f"train's rule gives {found.planned:g}"
        progress.say(
            "suggested", f"{found.suggestion:g} for {found.phase} ({found.optimizer}); {rule}"
        )
        if out is not None:
            progress.say("curve", str(out))
        option = f"--lr {found.suggestion:g}"
        progress.say("next", f"tlkit train {typed} {option}")
