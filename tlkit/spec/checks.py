"""What single fields of a spec cannot tell: whether they hold together."""

from __future__ import annotations

import re
from typing import Any

from tlkit.backbones.catalog import lookup
from tlkit.backbones.sides import sides
from tlkit.errors import BackboneError, SpecError, one_of
from tlkit.spec.coding import Coding
from tlkit.spec.task_options import NOT_YET, TASK_OPTIONS, options_of

OWN = "own"
"""What `backbone.weights` says for a model of the user's own, which brings its weights."""

ARRAYS = "<arrays>"
"""What `data`, `val` or `test` say in `spec.yaml` when Python passed arrays or a tf.data set."""


def find_problems(spec: Any) -> list[str]:
    """Return a sentence for each problem of a `RunSpec`, its place first."""
    problems = [*_split(spec), *(_given(spec) if spec.backbone.given else _row(spec))]
    problems += [*_images(spec), *_views(spec), *_groups(spec)]
    problems += [*_table(spec), *_class_names(spec), *_task(spec)]
    if spec.head.solver == "lbfgs" and spec.head.hidden:
        problems.append(
            "head.solver: lbfgs solves a linear head only. Allowed with hidden layers: auto, "
            f"fit. Received: lbfgs with hidden {spec.head.hidden}"
        )
    return problems + _fitting(spec)


def _table(spec: Any) -> list[str]:
    """What the task and other fields of a table leave without effect."""
    table, given, task = spec.table, spec.table.given(), options_of(spec)
    without = {
        "label": bool(table.targets) and "the labels are in table.targets",
        "separator": "labels in one column alone are separated (task multilabel, no table.targets)"
        if not task.joined or table.targets
        else False,
        "uncertain": "columns of 0 and 1 alone can be uncertain (table.targets, not regression)"
        if not task.binary or not table.targets
        else False,
        "unlabelled": "an empty cell says that the image has none of the labels"
        if task.joined and not table.targets
        else table.uncertain != "error" and "an empty cell is 0 by table.uncertain",
    }
    problems = [
        f"table.{name}: has no effect here, {why}. Allowed: left out. Received: {given[name]!r}"
        for name, why in without.items()
        if why and name in given
    ]
    several = [x for x in table.targets if table.targets.count(x) > 1]
    if several:
        problems.append(f"table.targets: names a column twice. Received: {several[0]!r}")
    if 0 < len(table.targets) < task.columns:
        problems.append(
            "table.targets: a class needs a column of its own. Allowed: two or more, as [a, b]. "
            f"Received: {table.targets}"
        )
    return problems


def _task(spec: Any) -> list[str]:
    """What the task has no use for."""
    if spec.task in NOT_YET:
        return [
            "task: tells several objects of one class apart, which is not there yet. Allowed: "
            f"{', '.join(TASK_OPTIONS)}. Received: {spec.task!r}"
        ]
    try:
        one_of(TASK_OPTIONS, spec.task, "task", SpecError)
    except SpecError as error:
        return [str(error)]
    problems = _masks(spec)
    for name, (why, allowed) in options_of(spec).refused.items():
        parent, _, last = name.rpartition(".")
        part = getattr(spec, parent) if parent else spec
        value = getattr(part, last)
        default = type(part).model_fields[last].get_default(call_default_factory=True)
        if value != default and str(value) not in allowed.split(", "):
            shown = f"{value:g}" if isinstance(value, float) else value
            problems.append(f"{name}: {why}. Allowed for {spec.task}: {allowed}. Received: {shown}")
    return problems


def _masks(spec: Any) -> list[str]:
    """What belongs to masks, or to the finding of objects, alone."""
    task = options_of(spec)
    owners = {"segmentation": ({"mask_values": spec.mask_values}, "decoder", task.masks)}
    owners["detection"] = ({}, "detector", task.detects)
    problems = []
    for owner, (given, name, own) in owners.items():
        part = getattr(spec, name)
        for last, field in type(part).model_fields.items():
            if getattr(part, last) != field.default:
                given |= {f"{name}.{last}": getattr(part, last)}
        problems += [
            f"{name}: belongs to the task {owner}. Allowed: left out. Received: {value} with "
            f"task {spec.task}"
            for name, value in given.items()
            if value and not own
        ]
    if task.masks:
        try:
            Coding(tuple(spec.mask_values))
        except ValueError as error:
            problems.append(f"mask_values: {error}")
    return problems


def _class_names(spec: Any) -> list[str]:
    names, problems = spec.class_names, []
    sources = [x for x in (spec.data, spec.val, spec.test) if isinstance(x, str)]
    if names and sources and ARRAYS not in sources:
        problems.append(
            "class_names: names the numbers beside arrays and tf.data sets; other data has names "
            f"of its own. Allowed: left out. Received: {', '.join(names)} with data {spec.data}"
        )
    if len(set(names)) != len(names) or not all(name.strip() for name in names):
        problems.append(
            f"class_names: needs a name of its own for each. Received: {', '.join(names)}"
        )
    return problems


def _fitting(spec: Any) -> list[str]:
    """What the task and other options allow in training."""
    problems, head = [], spec.head
    fitted = head.solver == "fit" or bool(head.hidden)
    later = spec.regime in ("medium", "large") and spec.freeze == "auto"
    later = later or spec.freeze not in ("auto", "all") or spec.budget is not None
    if head.refit and (fitted or later):
        why = (
            "a head fitted by gradient steps" if fitted else "phases after the head, which need it"
        )
        problems.append(
            "head.refit: takes the validation part for training. Allowed where a solved head is "
            f"all that is trained (--regime small). Received: refit with {why}"
        )
    if spec.budget is not None:
        problems += _budget(spec)
    return problems


def _budget(spec: Any) -> list[str]:
    """A budget decides what is unfrozen, and for how long, by itself."""
    fixed = {"freeze": "auto", "regime": "auto", "epochs": None}
    problems = [
        f"budget: chooses depth and epochs by itself. Allowed with it: {name} left out. "
        f"Received: {name} {value}"
        for name, default in fixed.items()
        if (value := getattr(spec, name)) != default
    ]
    if spec.backbone.weights == "none":
        problems.append(
            "budget: chooses how deep to unfreeze a pretrained network. Allowed: weights other "
            "than none. Received: backbone.weights none"
        )
    return problems


def _split(spec: Any) -> list[str]:
    shares = {k: v for k in ("val", "test") if not isinstance(v := getattr(spec, k), str)}
    problems = [
        f"{name}: is a share of the data or a folder. "
        f"Allowed: {'above 0' if name == 'val' else '0'} to below 1. Received: {share:g}"
        f"{_folder_hint(share)}"
        for name, share in shares.items()
        if not 0 <= share < 1 or (name == "val" and share == 0)
    ]
    if not problems and sum(shares.values()) >= 1:
        problems.append(
            "val, test: leave nothing to train on. Allowed: together below 1. "
            f"Received: val {spec.val:g} and test {spec.test:g}"
        )
    return problems


def _groups(spec: Any) -> list[str]:
    """What belongs together, and what becomes of classes that are rare."""
    problems = []
    if spec.group is not None and spec.table.group is not None:
        problems.append(
            "group: table.group says already which images belong together. Allowed: one of the "
            f"two. Received: group {spec.group!r} and table.group {spec.table.group!r}"
        )
    if spec.group is not None:
        try:
            re.compile(spec.group)
        except (re.error, RecursionError, OverflowError) as error:
            problems.append(
                f"group: is no regular expression: {error}. Allowed: one such as "
                f"'patient_([0-9]+)'. Received: {spec.group!r}"
            )
    return problems


def _images(spec: Any) -> list[str]:
    """What the training images' classes allow to be done with them."""
    problems = []
    if spec.balance == "weights" and (spec.mixup or spec.cutmix):
        problems.append(
            "balance: an image mixed of two classes has no one weight. Allowed with mixup or "
            "cutmix: none, sampling. Received: weights"
        )
    return problems


def _views(spec: Any) -> list[str]:
    """Kept views are drawn once, by a level of augmentation."""
    if spec.kept_views == 1:
        return []
    problems = []
    if spec.augment == "none" or spec.mixup or spec.cutmix:
        given = [f"augment {spec.augment}"]
        given += [f"{name} {x:g}" for name in ("mixup", "cutmix") if (x := getattr(spec, name))]
        problems.append(
            "augmented_copies: are random changes of single images. Allowed with 1 or more: "
            "augment auto, light, medium or strong, no mixup, no cutmix. "
            f"Received: {spec.augmented_copies} with {', '.join(given)}"
        )
    return problems


def _folder_hint(share: float) -> str:
    whole = share > 1 and share.is_integer()
    return f" (a folder of that name is written ./{share:.0f})" if whole else ""


def _row(spec: Any) -> list[str]:
    asked = spec.backbone
    try:
        row = lookup(asked.name)
    except BackboneError as error:
        return [f"backbone.name: {error}"]
    problems = [
        f"backbone.{name}: belongs to a model of your own (path/to/model.keras, "
        f"module:function), {row.name} has its own. Received: {value}"
        for name in ("cut", "preprocessing")
        if (value := getattr(asked, name)) is not None
    ]
    if spec.image_size and min(sides(spec.size)) < row.min_size:
        problems.append(
            f"image_size: too small for {row.name}. Allowed: {row.min_size} pixels or more. "
            f"Received: {spec.image_size}"
        )
    if spec.normalize != "application" and row.preprocessing == "inside":
        problems.append(
            f"normalize: {row.name} normalises inside itself. Allowed: application. "
            f"Received: {spec.normalize}"
        )
    allowed = row.arguments.get("alpha")
    if asked.alpha is not None and allowed is None:
        problems.append(f"backbone.alpha: {row.name} has none. Received: {asked.alpha}")
    elif asked.alpha is not None and asked.weights == "imagenet" and asked.alpha not in allowed:
        problems.append(
            f"backbone.alpha: there are no ImageNet weights of {row.name} for it. Allowed: "
            f"{', '.join(map(str, allowed))}. Received: {asked.alpha}"
        )
    return problems


def _given(spec: Any) -> list[str]:
    """A model of the user's own, from a file, a function or Python."""
    asked, problems = spec.backbone, []
    if asked.weights not in (OWN, "none"):
        problems.append(
            "backbone.weights: a model of your own brings its weights. Allowed: own, none "
            f"(they are random). Received: {asked.weights}"
        )
    if asked.alpha is not None:
        problems.append(f"backbone.alpha: {asked.name} has none. Received: {asked.alpha}")
    if spec.normalize != "application":
        problems.append(
            "normalize: a model of your own takes what backbone.preprocessing says. "
            f"Allowed: application. Received: {spec.normalize}"
        )
    return problems
