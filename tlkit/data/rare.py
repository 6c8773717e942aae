"""Classes, and labels, with too few images to be both trained on and measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from tlkit.data.example import Example
from tlkit.data.targets import Targets
from tlkit.errors import DataError

FEWEST = 2
"""Images, or groups of them, that a class needs: one to train on and one to validate with."""


def rare_classes(
    given: Sequence[Example],
    usable: Sequence[Example],
    unit: Callable[[Example], object],
    targets: Targets,
) -> dict[str, int]:
    """Return the classes or labels with fewer than `FEWEST` units in the training part, and how
    many each has.

    Args:
        given, usable: the training examples as listed, and those of them that can be used.
        unit: what counts as one: the image, or its group.
    """
    units = defaultdict(set)
    for example in usable:
        for name in targets.names_in(example.label):
            units[name].add(unit(example))
    names = sorted({name for example in given for name in targets.names_in(example.label)})
    return {name: len(units[name]) for name in names if len(units[name]) < FEWEST}


def check_rare(
    found: dict[str, int], known: set[str], choice: str, targets: Targets, unit: str
) -> None:
    """Raise a DataError where the choice does not let a run go on with rare classes.

    Args:
        found: the rare ones with their counts.
        known: all classes.
        choice: `rare` of the spec.
        unit: what was counted, in the plural.
    """
    what, each = targets.plural, ", ".join(f"{name!r} ({n})" for name, n in found.items())
    without = {name: n for name, n in found.items() if n == 0}
    if found and choice == "error":
        raise DataError(
            f"{what} with fewer than {FEWEST} usable {unit}, one to train on and one to validate "
            f"with: {each}. Allowed: more {unit} of them, --set rare=drop to leave them out, or "
            "--set rare=train to train on them and never measure them"
        )
    if without and choice == "train":
        raise DataError(
            f"{what} without a usable image to train on: {', '.join(map(repr, without))}. "
            "Allowed: images of them, or --set rare=drop. Received: rare=train"
        )
    if choice == "drop" and len(known) - len(found) < targets.fewest:
        raise DataError(
            f"rare=drop: leaves fewer than {targets.fewest} {what}. Received: {each} "
            f"of {len(known)} have fewer than {FEWEST} usable {unit}"
        )


def without(
    parts: dict[str, list[Example]], names: dict[str, int], targets: Targets, unit: str
) -> tuple[dict[str, list[Example]], dict[str, str]]:
    """Return the parts without these classes or labels, and why an example was left out.

    Of one class an example goes; of several labels it keeps the others, and with none of them left
    it is an image in which there is nothing.

    Args:
        names: the rare ones with their counts.
        unit: what was counted, in the plural.
    """
    kept, left_out = {}, {}
    for part, examples in parts.items():
        kept[part] = []
        for example in examples:
            label = targets.without(example.label, names)
            if label is None:
                left_out[example.id] = (
                    f"of class {example.label!r}, which has too few usable {unit} (rare=drop)"
                )
            elif label == example.label:
                kept[part].append(example)
            else:
                kept[part].append(replace(example, label=label))
    return kept, left_out


def rare_note(names: dict[str, int], targets: Targets, unit: str) -> str:
    """Return what a person is told of classes that were dropped."""
    each = ", ".join(f"{name!r} ({n})" for name, n in names.items())
    after = "" if targets.kind is str else "; their images stay, without them"
    return (
        f"{targets.plural} with fewer than {FEWEST} usable {unit} are no outputs (rare=drop): "
        f"{each}{after}"
    )


def unmeasured_note(train: Sequence[Example], others: Sequence[Example], targets: Targets) -> str:
    """Return a note on classes that are trained on and never measured; empty if there are none."""
    seen, measured = (
        {name for example in examples for name in targets.names_in(example.label)}
        for examples in (train, others)
    )
    names = ", ".join(map(repr, sorted(seen - measured)))
    return f"{targets.plural} trained on and never measured: {names}" if names else ""
