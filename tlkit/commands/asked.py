"""What a person asks for in Python: a spec, and apart from it the arrays and models it names."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras

from tlkit.backbones.catalog import MODEL
from tlkit.data.readers.arrays import class_names_of
from tlkit.data.readers.find_task import with_task
from tlkit.errors import SpecError, received
from tlkit.spec.earlier import adopted
from tlkit.spec.read import asked_spec
from tlkit.spec.renamed import RENAMED
from tlkit.spec.run import ARRAYS, RunSpec
from tlkit.spec.words import placed

F = TypeVar("F", bound=Callable[..., Any])


def in_keras_words(function: F) -> F:
    """Let a function be called with the words of `keras.Model.fit` and of Keras's data loaders.

    `validation_data` and `validation_split` are `val`, `verbose` is `progress`, and
    `class_weight="balanced"` is `balance="weights"`.

    Raises:
        SpecError: a word and what it stands for are both given, or `class_weight` is anything else.
    """

    @functools.wraps(function)
    def call(*args: Any, **fields: Any) -> Any:
        for word, (own, meaning) in KERAS_WORDS.items():
            if word not in fields:
                continue
            value = fields.pop(word)
            if own in fields:
                raise SpecError(f"{word}: is {own}, which is given as well. Allowed: one of them")
            fields[own] = meaning(value)
        return function(*args, **fields)

    return call


def _balance(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and value == "balanced":
        return "weights"
    raise SpecError(
        "class_weight: classes are weighted by how rare they are. Allowed: 'balanced', which is "
        f"balance='weights'. Received: {received(value)}"
    )


KERAS_WORDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "validation_data": ("val", lambda value: value),
    "validation_split": ("val", lambda value: value),
    "verbose": ("progress", lambda value: value not in (0, "0", False)),
    "class_weight": ("balance", _balance),
}
"""What each of Keras's words is called here, and what its value means."""


def spec_of(
    data: Any,
    val: Any,
    test: Any,
    fields: dict[str, Any],
    callbacks: bool = False,
    command: str = "train",
) -> tuple[RunSpec, dict[str, Any]]:
    """Return the spec, and apart from it what is no text.

    That is arrays among `data`, `val` and `test`, and a model as `backbone`.
    """
    fields, arrays = placed(fields), {}
    if "views" in fields:
        warnings.warn(RENAMED, FutureWarning, stacklevel=4)
    for name, value in (("data", data), ("val", val), ("test", test)):
        if value is None:
            continue
        if isinstance(value, str | Path | int | float):
            fields[name] = str(value) if isinstance(value, Path) else value
        else:
            arrays[name] = value
            fields[name] = ARRAYS
    if own := class_names_of(data):
        fields.setdefault("class_names", own)
    backbone = fields.get("backbone")
    asked = dict(backbone) if isinstance(backbone, dict) else {"name": backbone}
    if isinstance(asked.get("name"), keras.Model):
        arrays["backbone"] = asked["name"]
        fields["backbone"] = {**asked, "name": MODEL}
    elif isinstance(asked.get("name"), Path):
        fields["backbone"] = {**asked, "name": str(asked["name"])}
    if fields.get("out") is not None:
        fields["out"] = str(fields["out"])
    if fields.get("init") is not None:
        fields["init"] = str(getattr(fields["init"], "folder", fields["init"]))  # a Run is one, too
    spec = asked_spec(adopted(with_task(fields), command), callbacks=callbacks, command=command)
    return spec, arrays
