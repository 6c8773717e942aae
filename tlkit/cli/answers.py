"""Options that say how a run answers: mirrored, with or without its temperature, decided how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tlkit.errors import SpecError
from tlkit.tasks.decisions import Decision

_TTA = click.option(
    "--tta",
    type=click.Choice(["flip"]),
    help="flip: answer by the mean over an image and its mirror image, in twice the time.",
)
_VIEWS = click.option("--views", type=click.IntRange(1, 2), hidden=True)
_RAW = click.option(
    "--raw",
    is_flag=True,
    help="Answer as the network was trained, without the run's temperature.",
)
_DECISIONS = (
    click.option(
        "--threshold",
        metavar="X",
        help="Of two classes: give the second, or that of --positive, from this probability on. "
        "Or chosen on the validation part: f1, recall=0.95, precision=0.9. Of labels "
        "(multilabel) and objects (detection): a number, for all of them.",
    ),
    click.option(
        "--positive", metavar="CLASS", help="The class that --threshold is of. [default: second]"
    ),
    click.option(
        "--coverage",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="P",
        help="Also give sets of labels that hold the true one with this probability, such as 0.9 "
        "(split conformal prediction, on the validation part).",
    ),
)

IN_GRAPH = {
    "tta": ("--tta", "--tta flip"),
    "views": ("--tta", "--tta flip"),
    "raw": ("--raw", "--raw"),
}
"""Options that an export was written with: what they are called now, and how one was."""


def network_options(command: Callable) -> Callable:
    """Add `--tta`, what an earlier version called it, and `--raw`."""
    return _TTA(_VIEWS(_RAW(command)))


def answer_options(command: Callable) -> Callable:
    """Add the same and how answers are decided."""
    for option in reversed(_DECISIONS):
        command = option(command)
    return network_options(command)


def check_asked(path: Path, export: bool, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `answer_options` that a run or an export takes.

    Raises:
        SpecError: it is an export, which answers as it was written; or a threshold is none.
    """
    decision = Decision(asked["threshold"], asked["positive"], asked["coverage"])
    decision.check()
    if not export:
        return asked
    for name, value in asked.items():
        if value in (None, False):
            continue
        if name in IN_GRAPH:
            option, made = IN_GRAPH[name]
            shown = f"--{name}" if value is True else f"--{name} {value}"
            raise SpecError(
                f"{option}: {path} is an export, which has it in its graph or not. Allowed: a run "
                f"folder, or an export made by tlkit export {made}. Received: {shown}"
            )
        raise SpecError(
            f"--{name}: {path} is an export, which knows nothing of the validation part and names "
            f"the most probable. Allowed: a run folder. Received: {value}"
        )
    return {}
