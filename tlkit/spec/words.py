"""Words that people type, from Keras and other tools: the option that each stands for.

A word finds its place where there is one place alone; where it has none, a sentence says what to
write instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tlkit.errors import SpecError, did_you_mean, printable, received
from tlkit.spec.plain_yaml import alternatives
from tlkit.spec.run import RunSpec

ALIASES = {
    "lr": "optimizer.learning_rate",
    "rate": "optimizer.learning_rate",
    "base_lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
    "opt": "optimizer.name",
    "batch": "batch_size",
    "bs": "batch_size",
    "num_epochs": "epochs",
    "model": "backbone.name",
    "arch": "backbone.name",
    "architecture": "backbone.name",
    "base_model": "backbone.name",
    "img_size": "image_size",
    "imgsz": "image_size",
    "input_size": "image_size",
    "output": "out",
    "output_dir": "out",
    "save_dir": "out",
    "augmentation": "augment",
    "data_augmentation": "augment",
    "horizontal_flip": "mirror",
    "validation_split": "val",
    "validation_data": "val",
    "val_split": "val",
    "test_split": "test",
    "drop_rate": "head.dropout",
    "early_stopping": "optimizer.patience",
    "scheduler": "optimizer.schedule",
    "lr_schedule": "optimizer.schedule",
    "smoothing": "optimizer.label_smoothing",
    "random_seed": "seed",
    "random_state": "seed",
    "dtype": "precision",
}
"""Words of Keras, torchvision, timm and fastai, and the option that each stands for."""

INSTEAD = {
    "classes": "the classes are those of the data; names for numbered labels: class_names",
    "num_classes": "the classes are those of the data; names for numbered labels: class_names",
    "input_shape": "write image_size=N, the side of the square in pixels",
    "pretrained": "write backbone.weights=imagenet, or none for random weights",
    "trainable": "write freeze=none to train all, freeze=all to train the head alone",
    "unfreeze": "write freeze=last=N: all but the last N blocks are frozen",
    "fine_tune": "write regime=medium: the head, then the last blocks",
    "finetune": "write regime=medium: the head, then the last blocks",
    "fine_tune_at": "write freeze=layers=:N",
    "class_weight": "write balance=weights",
    "loss": "the task brings it: task=classification, multilabel or regression",
    "metrics": "the task brings them; metrics.json has them all",
    "shuffle": "the training part is in a new order in each epoch, by seed",
    "sample_weight": "images have no weights of their own; for rare classes: balance=weights",
    "steps_per_epoch": "an epoch is the whole training part; fewer of them: epochs=N",
    "initial_epoch": "a stopped run goes on with --resume RUN, in Python tlkit.resume(RUN)",
    "workers": "images are read by as many threads as there are cores",
    "num_workers": "images are read by as many threads as there are cores",
    "gpu": "write device=gpu, or device=gpu:0,1 for several",
    "gpus": "write device=gpu, or device=gpu:0,1 for several",
    "cuda": "write device=gpu",
    "amp": "write precision=bfloat16 or float16",
    "fp16": "write precision=float16",
    "mixed_precision": "write precision=bfloat16 or float16",
    "rotation_range": "write augment=medium, which turns, shifts and zooms",
    "zoom_range": "write augment=medium, which turns, shifts and zooms",
    "vertical_flip": "no level of augment mirrors top and bottom: augment=medium turns a little",
    "rescale": "images go in as RGB 0-255; the model scales them itself",
    "preprocessing_function": "images go in as RGB 0-255; the model scales them itself",
    "color_mode": "images are read as RGB, whatever they are stored as",
    "label_mode": "write task=classification, multilabel or regression",
    "resume": "write --resume RUN, in Python tlkit.resume(RUN)",
}
"""Words that stand for no single option, and what to write instead."""


def _leaves() -> dict[str, list[str]]:
    """Return the places of each option that stands in a part of the spec, by its own name."""
    found = defaultdict(list)
    for name, field in RunSpec.model_fields.items():
        for part in alternatives(field.annotation):
            for leaf in getattr(part, "model_fields", ()):
                found[leaf].append(f"{name}.{leaf}")
    return found


LEAVES = _leaves()


def place_of(word: str) -> str:
    """Return the place of what a person calls an option, such as `head.dropout` of `dropout`.

    A name that has no place is returned as it is: whoever reads it says so.

    Raises:
        SpecError: it stands in several places, or for no single option.
    """
    name = word.replace("-", "_")
    first, _, leaf = name.rpartition(".")
    if name in RunSpec.model_fields:
        return name
    if first:
        known = ALIASES.get(leaf, "")
        return known if known.startswith(f"{first}.") else word
    places = LEAVES.get(name, [])
    if len(places) > 1:
        raise SpecError(
            f"{name}: is in several places. Allowed: {', '.join(places)}. Received: {name}"
        )
    if places or name in ALIASES:
        return places[0] if places else ALIASES[name]
    if name in INSTEAD:
        raise SpecError(f"{name}: is no option: {INSTEAD[name]}. Received: {name}")
    return word


def placed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as `RunSpec` has them, of those that Python was given by any of their names.

    Raises:
        SpecError: see `place_of`, or one option is given twice.

    Example:
        >>> placed({"lr": 1e-4, "optimizer": "adam"})
        {'optimizer': {'name': 'adam', 'learning_rate': 0.0001}}
    """
    known = {name: value for name, value in fields.items() if name in RunSpec.model_fields}
    for word, value in fields.items():
        if word in known:
            continue
        place = place_of(word)
        first, _, leaf = place.rpartition(".")
        inner = known if not first else known.get(first, {})
        inner = inner if isinstance(inner, dict) else {"name": inner}
        if leaf in inner:
            raise SpecError(
                f"{word}: is {place}, which is given as well. Allowed: one of the two. "
                f"Received: {received(value)} and {received(inner[leaf])}"
            )
        known = known | ({first: inner | {leaf: value}} if first else {leaf: value})
    return known


def unknown_flag(flag: str, flags: dict[str, str], others: Iterable[str]) -> str:
    """Return what to write instead of an option of the command line that there is not.

    Args:
        flag: as it was typed, such as `--label-smoothing`.
        flags: of the command, by the option of the spec that each stands for.
        others: all spellings of the command's options.
    """
    word = flag.lstrip("-").replace("-", "_")
    said = f"no such option: {printable(flag)}."
    try:
        place = place_of(word)
    except SpecError as error:
        if word in INSTEAD:
            return f"{said} {INSTEAD[word][0].upper()}{INSTEAD[word][1:]}"
        return f"{said} {error}"
    if place in flags:
        return f"{said} Allowed: {flags[place]}"
    if place in RunSpec.model_fields or "." in place:
        return f"{said} Allowed: --set {place}=VALUE"
    return said + did_you_mean(flag, others)
