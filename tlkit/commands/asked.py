"""What a person asks for in Python: a spec, and apart from it the arrays and models it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.catalog import MODEL
from tlkit.data.readers.arrays import class_names_of
from tlkit.data.readers.find_task import with_task
from tlkit.spec.read import asked_spec
from tlkit.spec.run import ARRAYS, RunSpec
from tlkit.tasks.registry import check_task


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
    fields, arrays = dict(fields), {}
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
    spec = asked_spec(with_task(fields), callbacks=callbacks, command=command)
    check_task(spec)
    return spec, arrays
