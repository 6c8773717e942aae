"""Options that are shared by commands; their texts and defaults come from `RunSpec`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tlkit.backbones.catalog import lookup
from tlkit.cli.flags import RUNS, long_flag
from tlkit.data.readers.find_task import with_task
from tlkit.errors import DataError, SpecError, printable, received
from tlkit.places import check_there
from tlkit.planning.freeze_rule import check_rule
from tlkit.progress import Progress
from tlkit.spec.earlier import adopted
from tlkit.spec.idle import taken
from tlkit.spec.read import asked_spec, make_spec, merge, put, read_recipe
from tlkit.spec.renamed import RENAMED, renamed
from tlkit.spec.words import place_of


def spec_fields(
    data: str | None,
    recipe: Path | None,
    settings: tuple[str, ...],
    options: dict[str, Any],
    command: str = "train",
) -> dict[str, Any]:
    """Merge recipe, options and `--set`, the later over the earlier, into the spec's fields.

    Args:
        command: that they are options of, such as `data scan`; what it does not go by is left out
            of a recipe, which is written for training, and refused elsewhere.
    """
    settings = found_places(settings)
    given = by_place(options)
    say_replaced(given if data is None else {"data": data, **given}, settings)
    fields = _for_command(recipe, command) if recipe else {}
    fields = nested(given, fields)
    if data is not None:
        fields["data"] = data
    fields = with_task(merge(fields, settings))
    if "views" in fields:
        click.echo(f"{'note':<10}{RENAMED}", err=True)
    # A wrong option or path is answered before TensorFlow's seconds of import.
    where = f"{recipe} and the options" if recipe else "the options"
    fields = adopted(fields, command)
    spec = asked_spec(fields, where, command=command)
    fields = renamed(fields)
    if spec.freeze != "auto":
        check_rule(spec.freeze, None if spec.backbone.given else lookup(spec.backbone.name))
    if spec.data is None:
        raise DataError("data: is missing. Allowed: a folder of class folders, or example:elpv")
    for name in (spec.data, spec.val, spec.test):
        if isinstance(name, str):
            check_there(name)
    return fields


def _for_command(recipe: Path, command: str) -> dict[str, Any]:
    """Return the fields of a recipe that a command goes by; say which of them it leaves aside."""
    fields = read_recipe(recipe)
    make_spec(fields, str(recipe))
    kept, others = taken(fields, command)
    given = make_spec(fields).model_dump(exclude_defaults=True)
    if idle := [name for name in others if _is_in(given, name.split("."))]:
        text = f"{recipe}: not of use in tlkit {command}: {', '.join(idle)}"
        click.echo(printable(f"{'note':<10}{text}"), err=True)
    return kept


def _is_in(fields: Any, path: list[str]) -> bool:
    """Tell whether nested fields have a place, such as ["head", "dropout"]."""
    if not path:
        return True
    return isinstance(fields, dict) and path[0] in fields and _is_in(fields[path[0]], path[1:])


def by_place(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, by the place in the spec that each stands for.

    Raises:
        SpecError: `--name` is no name of a folder, or stands beside `--out`.
    """
    given = {name.replace("__", "."): x for name, x in options.items() if x is not None}
    name = given.pop("name", None)
    if name is None:
        return given
    if not name.strip(" .") or os.path.basename(name) != name or "\0" in name:
        raise SpecError(
            "--name: is no name of a folder. Allowed: a name without slashes; a path is given by "
            f"--out. Received: {received(name)}"
        )
    if "out" in given:
        raise SpecError(
            "--name, --out: both say where the run is written. Allowed: one of the two. "
            f"Received: {name} and {given['out']}"
        )
    return given | {"out": str(RUNS / name)}


def nested(given: dict[str, Any], over: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return options as fields of the spec, put over others; see `by_place`."""
    fields = dict(over or {})
    for place, value in given.items():
        fields = put(fields, place.split("."), value)
    return fields


def found_places(settings: Iterable[str]) -> list[str]:
    """Return settings with each option by its place in the spec; say which had to be found."""
    found = []
    for setting in settings:
        word, equals, value = setting.partition("=")
        place = place_of(word.strip())
        if equals and place != word.strip():
            said = f"{'note':<10}--set {word.strip()}: taken for {place}"
            click.echo(printable(said), err=True)
        found.append(f"{place}{equals}{value}")
    return found


def as_words(
    data: str, recipe: Path | None, settings: tuple[str, ...], options: dict[str, Any]
) -> str:
    """Return data and options as they would be typed after `tlkit train`."""
    words = [data, *(["--recipe", str(recipe)] if recipe else [])]
    for place, value in by_place(options).items():
        words += [long_flag(place)] if value is True else [long_flag(place), str(value)]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)


def say_replaced(given: dict[str, Any], settings: Iterable[str]) -> None:
    """Say what stands twice on the command line with two values: the last counts.

    Args:
        given: options by place, see `by_place`.
    """
    last = {
        place: (f"{'DATA' if place == 'data' else long_flag(place)} {value}", str(value))
        for place, value in given.items()
    }
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        before, worth = last.get(name, ("", value))
        last[name] = (f"--set {name}={value}", value)
        if worth != value:
            click.echo(printable(f"{'note':<10}{before}: replaced by {last[name][0]}"), err=True)


def out_option(text: str, metavar: str = "DIR", required: bool = False) -> Callable:
    """Return `-o`, `--out`: where a command writes what it makes."""
    kind = click.Path(path_type=Path)
    return click.option("-o", "--out", type=kind, metavar=metavar, required=required, help=text)


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Print the result alone: no steps, notes and bars."
)
verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also print why each phase is as it is, and losses, rate and seconds of each epoch.",
)


def check_loudness(quiet: bool, verbose: bool) -> None:
    """Refuse options that ask for less and for more at once."""
    if quiet and verbose:
        raise SpecError("-q, -v: choose one of them. Received: both")


@contextlib.contextmanager
def output(
    as_json: bool, quiet: bool = False, verbose: bool = False
) -> Iterator[tuple[Progress, Callable[[Any], None]]]:
    """Give the progress display and a function that prints a result.

    With `as_json` standard output carries the JSON and nothing else: whatever is printed in
    between, by Keras too, goes to standard error.
    """
    real = sys.stdout
    if not as_json:
        yield Progress(quiet, verbose=verbose), lambda value: click.echo(value, file=real)
        return
    escaped = str(real.encoding).lower() not in ("utf-8", "utf8")
    with contextlib.redirect_stdout(sys.stderr):
        yield (
            Progress(quiet, stderr=True, verbose=verbose),
            lambda value: click.echo(json.dumps(value, ensure_ascii=escaped), file=real),
        )


def tile_option(command: Callable) -> Callable:
    """Add `--tile`."""
    return click.option(
        "--tile",
        type=int,
        metavar="N",
        help="Answer images larger than N pixels in overlapping tiles of N, blended "
        "(segmentation); N as large as training images shows things as large as they were.",
    )(command)
