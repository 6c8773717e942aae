"""Options that are shared by commands; their texts and defaults come from `RunSpec`."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import click

from tlkit.data.readers.find_task import with_task
from tlkit.errors import DataError, printable
from tlkit.places import check_there
from tlkit.progress import Progress
from tlkit.spec.idle import taken
from tlkit.spec.parts import BackboneSpec
from tlkit.spec.read import asked_spec, make_spec, merge, read_recipe
from tlkit.spec.run import RunSpec

# Options of the command line that stand for a field of the spec; the rest is reached by --set.
_FIELDS = {
    "--out": "out",
    "--regime": "regime",
    "--freeze": "freeze",
    "--image-size": "image_size",
    "--batch-size": "batch_size",
    "--epochs": "epochs",
    "--budget": "budget",
    "--val": "val",
    "--test": "test",
    "--seed": "seed",
    "--device": "device",
    "--precision": "precision",
    "--engine": "engine",
}
_INTEGERS = {"image_size", "batch_size", "epochs", "seed"}


def spec_options(command: Callable, without: Collection[str] = ()) -> Callable:
    """Add the options that describe a run, those `without` left out."""
    backbone = click.option(
        "--backbone",
        metavar="NAME",
        help=f"{BackboneSpec.model_fields['name'].description} "
        f"[default: {BackboneSpec.model_fields['name'].default}]",
    )
    decorators = [
        *([] if "--backbone" in without else [backbone]),
        *(field_option(flag, name) for flag, name in _FIELDS.items() if flag not in without),
        click.option("--deterministic", is_flag=True, default=None, help=_text("deterministic")),
        click.option("--strict", is_flag=True, default=None, help=_text("strict")),
        click.option(
            "--recipe",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Read options from a YAML file; what stands on the command line wins.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set any field of the spec, such as head.dropout=0.5 (tlkit schema lists them).",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def field_option(flag: str, name: str) -> Callable:
    """Return the option that stands for a field of the spec."""
    kind = click.INT if name in _INTEGERS else click.STRING
    return click.option(flag, name, type=kind, help=_text(name), metavar=_metavar(name))


def _text(name: str) -> str:
    field = RunSpec.model_fields[name]
    unit = (field.json_schema_extra or {}).get("unit")
    parts = [f"unit: {unit}"] if unit else []
    if field.default is not None and field.default is not False:
        parts.append(f"default: {field.default}")
    return field.description + (f" [{'; '.join(parts)}]" if parts else "")


def _metavar(name: str) -> str:
    choices = RunSpec.model_json_schema()["properties"][name].get("enum")
    if choices:
        return "|".join(choices)
    return {
        "val": "DATA|FRACTION",
        "test": "DATA|FRACTION",
        "out": "DIR",
        "freeze": "SPEC",
        "device": "auto|cpu|gpu|gpu:N,M|gpu:all",
        "budget": "TIME",
    }.get(name, "N")


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
    say_replaced(options | {"data": data}, settings)
    fields = _for_command(recipe, command) if recipe else {}
    given = {name: value for name, value in options.items() if value is not None}
    backbone = given.pop("backbone", None)
    fields |= given
    if data is not None:
        fields["data"] = data
    if backbone is not None:
        fields = merge(fields, [f"backbone.name={backbone}"])
    fields = with_task(merge(fields, list(settings)))
    # A wrong option or path is answered before TensorFlow's seconds of import.
    where = f"{recipe} and the options" if recipe else "the options"
    spec = asked_spec(fields, where, command=command)
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


def as_words(
    data: str, recipe: Path | None, settings: tuple[str, ...], options: dict[str, Any]
) -> str:
    """Return data and options as they would be typed after `tlkit train`."""
    words = [data, *(["--recipe", str(recipe)] if recipe else [])]
    flags = {"--deterministic": "deterministic", "--strict": "strict", **_FIELDS}
    for flag, name in {"--backbone": "backbone", **flags}.items():
        value = options.get(name)
        if value is not None:
            words += [flag] if value is True else [flag, str(value)]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)


def say_replaced(options: dict[str, Any], settings: tuple[str, ...]) -> None:
    """Say what stands twice on the command line with two values: the last counts."""
    flags = {"DATA": "data", "--backbone": "backbone.name", **_FIELDS}
    last = {
        name: (f"{flag} {value}", str(value))
        for flag, name in flags.items()
        if (value := options.get(name.partition(".")[0])) is not None
    }
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        before, worth = last.get(name, ("", value))
        last[name] = (f"--set {name}={value}", value)
        if worth != value:
            click.echo(printable(f"{'note':<10}{before}: replaced by {last[name][0]}"), err=True)


@contextlib.contextmanager
def output(as_json: bool) -> Iterator[tuple[Progress, Callable[[Any], None]]]:
    """Give the progress display and a function that prints a result.

    With `as_json` standard output carries the JSON and nothing else: whatever is printed in
    between, by Keras too, goes to standard error.
    """
    real = sys.stdout
    if not as_json:
        yield Progress(), lambda value: click.echo(value, file=real)
        return
    escaped = str(real.encoding).lower() not in ("utf-8", "utf8")
    with contextlib.redirect_stdout(sys.stderr):
        yield (
            Progress(stderr=True),
            lambda value: click.echo(json.dumps(value, ensure_ascii=escaped), file=real),
        )
