"""From what a person wrote (YAML, `--set`, keywords) to a `RunSpec`, or all its problems."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ValidationError

from tlkit.errors import SpecError, did_you_mean, received
from tlkit.spec import RunSpec


def make_spec(fields: dict[str, Any], where: str = "the options") -> RunSpec:
    """Validate `fields` (nested as in YAML) into a `RunSpec`.

    Raises:
        SpecError: lists every problem with its place, what is allowed and what was received.
    """
    try:
        return RunSpec.model_validate(fields)
    except ValidationError as error:
        problems = _problems(fields, error)
    if len(problems) == 1:
        raise SpecError(f"{where}: {problems[0]}")
    raise SpecError("\n  ".join([f"{where}: {len(problems)} problems:", *problems]))


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
    place = ".".join(map(str, path))
    if item["type"] == "value_error":
        text = str(item["ctx"]["error"])
        return [f"{place}: {text}"] if place else text.split("\n")
    if item["type"] == "extra_forbidden":
        options = _options_at(path[:-1])
        return [
            f"{place}: unknown option.{did_you_mean(str(path[-1]), options)} "
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
        SpecError: the file is missing, not YAML, or no mapping.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"recipe {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"recipe {path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise SpecError(
            f"recipe {path}: must be a mapping of options. Received: {type(fields).__name__}"
        )
    return fields


def merge(fields: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Return `fields` with each `a.b=value` of `settings` put in.

    A value is read as YAML; for an option that takes text, what is not quoted is the text as it
    stands, so that a separator may be a blank or `|`, and a column may be called `no` or `1`.

    Raises:
        SpecError: a setting has no `=`, or its value is not YAML.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise SpecError(
                f"--set: write key=value, such as head.dropout=0.5. Received: {setting!r}"
            )
        path = key.strip().split(".")
        try:
            value = _text(text) if _takes_text(path) else yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise SpecError(
                f"--set {key}: the value is not YAML. Received: {received(text)}"
            ) from error
        fields = _with(fields, path, value)
    return fields


def _takes_text(path: list[str]) -> bool:
    """Tell whether the option takes text and nothing else, or none."""
    model: Any = RunSpec
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return False
        model = _part_class(field.annotation)
    return field.annotation in (str, str | None)


def _text(text: str) -> Any:
    """Return a text as it stands; as YAML where that says more: quotes, null, nothing."""
    bare = text.strip()
    if text and not bare:
        return text
    return yaml.safe_load(text) if bare[:1] in ("", "'", '"', "~") or bare == "null" else bare


def _with(fields: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    if len(path) == 1:
        return {**fields, path[0]: value}
    inner = fields.get(path[0], {})
    inner = inner if isinstance(inner, dict) else {"name": inner}
    return {**fields, path[0]: _with(inner, path[1:], value)}
