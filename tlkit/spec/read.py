"""From what a person wrote (YAML, `--set`, keywords) to a `RunSpec`, or all its problems."""

from __future__ import annotations

import functools
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from tlkit.errors import SpecError, did_you_mean, printable, received
from tlkit.spec.idle import find_idle, find_unused
from tlkit.spec.plain_yaml import part_of, read_yaml, typed
from tlkit.spec.run import RunSpec

LARGEST = 2**20
"""Bytes of the largest recipe that is read: all options with their descriptions take a hundredth,
and the reader takes seconds for it."""

LONGEST = 100
"""Characters of a name that a message repeats."""


def make_spec(fields: dict[str, Any], where: str = "the options") -> RunSpec:
    """Validate `fields` (nested as in YAML) into a `RunSpec`.

    Raises:
        SpecError: lists every problem with its place, what is allowed and what was received.
    """
    where = printable(where)
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a mapping of options. Received: {received(fields)}")
    try:
        return RunSpec.model_validate(fields)
    except ValidationError as error:
        raise _refusal(where, _problems(fields, error)) from None


def asked_spec(
    fields: dict[str, Any],
    where: str = "the options",
    callbacks: bool = False,
    command: str = "train",
) -> RunSpec:
    """Validate what a person asks for: as `make_spec`, and each option must have an effect.

    Args:
        callbacks: the person passed Keras callbacks.
        command: what they are asked of, such as `data scan`.

    Raises:
        SpecError: see `make_spec`, and `tlkit.spec.idle`.
    """
    spec = make_spec(fields, where)
    if idle := find_unused(spec, command) or find_idle(spec, callbacks):
        raise _refusal(printable(where), idle)
    return spec


def _refusal(where: str, problems: list[str]) -> SpecError:
    problems = list(map(printable, problems))
    if len(problems) == 1:
        return SpecError(f"{where}: {problems[0]}")
    return SpecError("\n  ".join([f"{where}: {len(problems)} problems:", *problems]))


def _problems(fields: dict[str, Any], error: ValidationError) -> list[str]:
    """List what is wrong with single fields, then what is wrong with the rest of them together."""
    items = error.errors()
    lines = [line for item in items for line in _explain(item)]
    rest = fields
    for item in items:
        rest = _without(rest, [part for part in item["loc"] if part not in ("float", "str")])
    if rest != fields:
        try:
            RunSpec.model_validate(rest)
        except ValidationError as more:
            lines += [line for item in more.errors() for line in _explain(item)]
    return lines


def _without(fields: dict[str, Any], path: list[Any]) -> dict[str, Any]:
    if not path or not isinstance(fields, dict) or path[0] not in fields:
        return fields
    kept = {key: value for key, value in fields.items() if key != path[0]}
    inner = fields[path[0]]
    if len(path) > 1 and isinstance(inner, dict):
        kept[path[0]] = _without(inner, path[1:])
    return kept


def _explain(item: dict[str, Any]) -> list[str]:
    """Turn one pydantic error into lines of ours."""
    path = list(item["loc"])
    place = _shown(".".join(map(str, path)))
    if item["type"] == "value_error":
        text = str(item["ctx"]["error"])
        return [f"{place}: {text}"] if place else text.split("\n")
    if item["type"] == "extra_forbidden":
        options = _options_at(path[:-1])
        return [
            f"{place}: unknown option.{did_you_mean(_shown(str(path[-1])), options)} "
            f"Allowed: {', '.join(options)}. Received: {received(item['input'])}"
        ]
    message = item["msg"].removeprefix("Input ").replace("String should", "should")
    return [f"{place}: {message}. Received: {received(item['input'])}"]


def _options_at(path: list[str | int]) -> list[str]:
    model: Any = RunSpec
    for part in path:
        model = _part_class(model.model_fields[part].annotation)
    return list(model.model_fields)


def _part_class(annotation: Any) -> type[BaseModel]:
    if typing.get_origin(annotation) in (Annotated, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    return annotation


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the fields of a recipe file.

    Raises:
        SpecError: the file is missing, too large, not YAML, or no mapping.
    """
    where = printable(f"recipe {path}")
    try:
        with path.open("rb") as file:  # it may be a pipe: `--recipe <(command)`
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise SpecError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL character in the path
        raise SpecError(f"{where}: cannot be read: {error}") from error
    if len(content) > LARGEST:
        raise SpecError(
            f"{where}: is too large for a recipe. Allowed: {LARGEST:,} bytes. Received: more"
        )
    try:
        fields = read_yaml(content, RunSpec)
    except ValueError as error:
        raise SpecError(printable(f"{where}: is not YAML: {error}")) from error
    if not isinstance(fields, dict):
        raise SpecError(f"{where}: must be a mapping of options. Received: {type(fields).__name__}")
    return fields


def merge(fields: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Return `fields` with each `a.b=value` of `settings` put in, the last of a name.

    An option that takes text gets what is behind `=`, so that a separator may be a blank or `|`,
    and a column may be called `no` or `1`; other values are read as YAML.

    Raises:
        SpecError: a setting has no `=`, a name in it is empty, or its value is not YAML.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = [name.strip() for name in key.split(".")]
        if not equals or not all(path):
            raise SpecError(
                "--set: write key=value, such as head.dropout=0.5. "
                f"Received: {printable(received(setting))}"
            )
        try:
            value = typed(text, functools.reduce(part_of, path, RunSpec))
        except ValueError as error:
            problem = f"--set {_shown(key)}: the value is not YAML: {error}"
            raise SpecError(printable(f"{problem}. Received: {received(text)}")) from error
        fields = put(fields, path, value)
    return fields


def _shown(name: str) -> str:
    """Return the name of an option, which may be anything, for a message."""
    return printable(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")


def put(fields: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return `fields` with `value` at `path`, such as ["head", "dropout"]."""
    if len(path) == 1:
        return {**fields, path[0]: value}
    inner = fields.get(path[0], {})
    inner = inner if isinstance(inner, dict) else {"name": inner}
    return {**fields, path[0]: put(inner, path[1:], value)}
