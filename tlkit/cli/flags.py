"""The options of the command line that stand for fields of a `RunSpec`, which gives their texts."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from pathlib import Path

import click
from pydantic.fields import FieldInfo

from tlkit.spec.parts import BackboneSpec, HeadSpec, OptimizerSpec
from tlkit.spec.run import RunSpec
from tlkit.spec.words import unknown_flag

FLAGS = {
    "backbone.name": ("--model", "--backbone"),
    "out": ("-o", "--out"),
    "init": ("--init",),
    "regime": ("--regime",),
    "freeze": ("--freeze",),
    "optimizer.learning_rate": ("--learning-rate", "--lr"),
    "optimizer.name": ("--optimizer",),
    "augment": ("--augment",),
    "head.dropout": ("--dropout",),
    "image_size": ("--image-size",),
    "batch_size": ("--batch", "--batch-size"),
    "epochs": ("--epochs",),
    "optimizer.patience": ("--patience",),
    "budget": ("--budget",),
    "val": ("--val",),
    "test": ("--test",),
    "seed": ("--seed",),
    "device": ("--device",),
    "precision": ("--precision",),
    "engine": ("--engine",),
    "deterministic": ("--deterministic",),
    "strict": ("--strict",),
}
"""Fields of the spec with options of their own, and the spellings of these; others are reached by
--set."""

_NUMBERS = {
    **dict.fromkeys(("batch_size", "epochs", "seed"), click.INT),
    **dict.fromkeys(("optimizer.learning_rate", "head.dropout"), click.FLOAT),
    "optimizer.patience": click.INT,
}
_SWITCHES = ("deterministic", "strict")

RUNS = Path("runs")
"""Where runs are written to that are given no folder of their own."""


class SpecCommand(click.Command):
    """A command whose unknown options are answered with what to write instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does; an option that there is not is looked up among words people type."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            own = {spelling for option in self.params for spelling in option.opts}
            flags = {place: long_flag(place) for place in FLAGS if long_flag(place) in own}
            raise click.UsageError(
                unknown_flag(error.option_name, flags, sorted(own)), ctx
            ) from None


def long_flag(place: str) -> str:
    """Return the spelling of an option by which it is named in messages, the last one."""
    return FLAGS[place][-1]


def spec_options(command: Callable, without: Collection[str] = ()) -> Callable:
    """Add the options that describe a run, those of the places `without` left out."""
    decorators = [
        *(field_option(place) for place in FLAGS if place not in without),
        *([] if "out" in without else [_NAME]),
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
            help="Set any field of the spec, such as head.dropout=0.5 (tlkit schema lists them); "
            "dropout=0.5 finds its place.",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


_NAME = click.option(
    "--name", metavar="NAME", help=f"Name of the run: its folder is {RUNS}/NAME, instead of --out."
)


def field_option(place: str) -> Callable:
    """Return the option that stands for a field of the spec."""
    parameter, text = place.replace(".", "__"), _text(place)
    if place in _SWITCHES:
        return click.option(*FLAGS[place], parameter, is_flag=True, default=None, help=text)
    kind = _NUMBERS.get(place, click.STRING)
    return click.option(*FLAGS[place], parameter, type=kind, help=text, metavar=_metavar(place))


def _field(place: str) -> FieldInfo:
    """Return the field of the spec at `place`."""
    part, _, name = place.rpartition(".")
    return {"": RunSpec, "backbone": BackboneSpec, "head": HeadSpec, "optimizer": OptimizerSpec}[
        part
    ].model_fields[name]


def _text(place: str) -> str:
    field = _field(place)
    unit = (field.json_schema_extra or {}).get("unit")
    parts = [f"unit: {unit}"] if unit else []
    if field.default is not None and field.default is not False:
        parts.append(f"default: {field.default}")
    return field.description + (f" [{'; '.join(parts)}]" if parts else "")


def _metavar(place: str) -> str:
    kind = _field(place).annotation
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    return {
        "backbone.name": "NAME",
        "val": "DATA|FRACTION",
        "test": "DATA|FRACTION",
        "out": "DIR",
        "init": "RUN",
        "freeze": "SPEC",
        "image_size": "N|HxW",
        "device": "auto|cpu|gpu|gpu:N,M|gpu:all",
        "budget": "TIME",
        "optimizer.learning_rate": "X",
        "head.dropout": "P",
    }.get(place, "N")
