"""`init`: a run that starts from the weights of an earlier one, and what it takes over from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlkit.errors import RunFolderError, SpecError, received
from tlkit.spec.checks import OWN
from tlkit.spec.idle import takes
from tlkit.spec.read import make_spec, put, read_recipe
from tlkit.spec.run import RunSpec

_BACKBONE = tuple(f"backbone.{name}" for name in ("name", "alpha", "cut", "preprocessing"))
_HEAD = tuple(f"head.{name}" for name in ("pooling", "hidden", "activation", "batchnorm"))
NEEDED = ("task", *_BACKBONE, *_HEAD)
"""What the weights belong to: given, it must be as it was."""

TAKEN = ("image_size", "resize", "mirror", "alpha", "bits")
"""What is as it was unless something else is given."""


def adopted(fields: dict[str, Any], command: str = "train") -> dict[str, Any]:
    """Return the fields of a spec with what a run takes over from the one that `init` names.

    Twice is as once. Where there is no `init`, or the command goes by none, they stay as they are.

    Raises:
        RunFolderError: it names no finished run.
        SpecError: another backbone, task or head is asked for than the weights belong to.
    """
    if fields.get("init") is None or not takes(command, "init"):
        return fields
    asked = make_spec(fields)
    folder = Path(asked.init)
    before = _spec_before(folder)
    fields = {**fields, "init": str(folder)}
    for place in (*NEEDED, *TAKEN):
        own, given = _value(before, place), _is_given(asked, place)
        if not given:
            fields = put(fields, place.split("."), own)
        elif place in NEEDED and _value(asked, place) != own:
            raise SpecError(
                f"init {folder}: its weights belong to {place} {own}. Allowed: the same, or left "
                f"out. Received: {received(_value(asked, place))}"
            )
    weights = str(folder / "model.keras")
    if _is_given(asked, "backbone.weights") and asked.backbone.weights not in (weights, OWN):
        raise SpecError(
            f"init {folder}: brings the weights. Allowed: backbone.weights left out. "
            f"Received: {asked.backbone.weights}"
        )
    return fields if before.backbone.given else put(fields, ["backbone", "weights"], weights)


def _spec_before(folder: Path) -> RunSpec:
    if not (folder / "spec.yaml").is_file():
        there = "holds no spec.yaml" if folder.is_dir() else "is no folder"
        raise RunFolderError(f"init {folder}: {there}. Allowed: a folder made by tlkit train")
    if not (folder / "metrics.json").is_file():
        raise RunFolderError(
            f"init {folder}: is unfinished. Allowed: a finished run; this one goes on with: tlkit "
            f"train --resume {folder}"
        )
    spec = make_spec(read_recipe(folder / "spec.yaml"), f"{folder}/spec.yaml")
    if spec.normalize != "application":
        raise SpecError(
            f"init {folder}: was normalised by the colours of its own images (normalize: "
            f"{spec.normalize}), which others do not have. Allowed: a run with normalize: "
            "application"
        )
    return spec


def _value(spec: RunSpec, place: str) -> Any:
    part, _, name = place.rpartition(".")
    return getattr(getattr(spec, part) if part else spec, name)


def _is_given(spec: RunSpec, place: str) -> bool:
    part, _, name = place.rpartition(".")
    if part and part not in spec.model_fields_set:
        return False
    return name in (getattr(spec, part) if part else spec).model_fields_set
