"""What `tlkit compare` is asked for, read: backbones with arguments, and a time budget."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlkit.errors import SpecError, did_you_mean
from tlkit.spec.parts import BackboneSpec, in_seconds
from tlkit.spec.read import make_spec, merge
from tlkit.spec.run import RunSpec

ARGUMENTS = {"image_size": "image_size"} | {
    name: f"backbone.{name}" for name in BackboneSpec.model_fields if name != "name"
}
"""Arguments that a backbone may carry, and the fields of the spec that they stand for."""

ARGUMENT = re.compile(r"\s*\w+=.*")


@dataclass(frozen=True)
class Candidate:
    """One backbone to compare: as it was asked for, and the settings that it stands for."""

    label: str
    settings: tuple[str, ...]

    def spec(self, fields: dict[str, Any]) -> RunSpec:
        """Return the spec of a run on it; `fields` hold the rest.

        Raises:
            SpecError: the backbone does not exist or does not take its arguments.
        """
        return make_spec(merge(fields, list(self.settings)), f"--backbones {self.label}")

    @property
    def options(self) -> str:
        """The same as options of `tlkit train`."""
        name, *rest = (setting.partition("=") for setting in self.settings)
        words = [word for key, _, value in rest for word in ("--set", f"{key}={value}")]
        return shlex.join(["--backbone", name[2], *words])


def read_candidates(backbones: str | Sequence[str]) -> list[Candidate]:
    """Read `NAME[:KEY=VALUE[,KEY=VALUE]...]`, several joined by commas or given one by one.

    A part between commas that is `KEY=VALUE` belongs to the backbone before it:
    `MobileNetV2,MobileNet:alpha=0.25,image_size=128,EfficientNetLite0` are three.

    Raises:
        SpecError: none is named, one twice, or an argument is unknown.
    """
    texts = [backbones] if isinstance(backbones, str) else list(backbones)
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    grouped: list[list[str]] = []
    for part in parts:
        if ARGUMENT.fullmatch(part) and grouped:
            grouped[-1].append(part)
            continue
        name, colon, first = part.rpartition(":")
        # module:function has a colon too, but no argument behind it.
        grouped.append([name, first] if colon and ARGUMENT.fullmatch(first) else [part])
    if not grouped:
        raise SpecError("--backbones: name at least one, such as MobileNetV2,EfficientNetB0")
    candidates = [_candidate(*group) for group in grouped]
    labels = [candidate.label for candidate in candidates]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise SpecError(f"--backbones: each is to be named once. Received twice: {twice}")
    return candidates


def _candidate(name: str, *arguments: str) -> Candidate:
    settings = [f"backbone.name={name}"]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in ARGUMENTS:
            raise SpecError(
                f"--backbones {name}: unknown argument.{did_you_mean(key, ARGUMENTS)} "
                f"Allowed: {', '.join(ARGUMENTS)}. Received: {argument!r}"
            )
        settings.append(f"{ARGUMENTS[key]}={value}")
    return Candidate(name + (":" + ",".join(arguments) if arguments else ""), tuple(settings))


def read_seconds(budget: str | float) -> float:
    """Return the seconds of `90s`, `2m`, `1.5h`, or of a number of seconds.

    Raises:
        SpecError: it is none of these, or not above 0.
    """
    try:
        seconds = float(in_seconds(str(budget).strip()))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise SpecError(
            f"--budget: a time above 0, with s, m or h. Allowed: such as 90s, 2m, 1h. "
            f"Received: {budget!r}"
        )
    return seconds
