"""Options that were given and, by what else is given, can have no effect.

Such an option is a mistake: its owner believes that it does something. Judged is what differs from
its default alone, so that a run's `spec.yaml`, which has every option, may be used as a recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tlkit.backbones.catalog import lookup
from tlkit.spec.task_options import options_of

FITTED = ("head.initializer", "head.bias", "head.l2", "head.dropout")
"""Options of gradient steps that stand beside the head; all of `optimizer` are too."""

LINEAR = ("head.activation", "head.batchnorm")
SCHEDULES = {
    "optimizer.warmup": ("cosine",),
    "optimizer.plateau_factor": ("plateau",),
    "optimizer.plateau_patience": ("plateau",),
}
"""Options of one schedule, and that schedule."""


_READ = (
    *("data", "task", "table", "class_names", "mask_values", "group", "alpha", "bits"),
    *("image_size", "resize"),
)
_SPLIT = ("val", "test", "seed", "strict", "rare", "near_duplicates")
_SEEN = ("augment", "mirror", "mixup", "cutmix", "balance")
TAKES = {
    "data scan": (*_READ, "backbone.name"),
    "data prepare": (*_READ, "backbone.name", *_SPLIT),
    "data preview": (*_READ, "backbone", *_SPLIT, *_SEEN),
}
"""Options, or groups of such, that commands go by which train nothing; `tlkit plan` takes all: it
says what `tlkit train` would do with the same."""

INSTEAD = {
    "compare": {"out": "--out", "backbone.name": "--backbones", "init": "--backbones"},
    "lr-find": {"out": "--out"},
}
"""Options of a run that others stand for in commands that train."""


def takes(command: str, name: str) -> bool:
    """Tell whether a command goes by the option `name`, such as `head.dropout`."""
    if name in INSTEAD.get(command, ()):
        return False
    return command not in TAKES or name in TAKES[command] or name.split(".")[0] in TAKES[command]


def find_unused(spec: Any, command: str) -> list[str]:
    """Return a sentence for each option of a `RunSpec` that was given and that a command ignores.

    Args:
        command: as it is typed, such as `data scan`.
    """
    why = f"tlkit {command} trains nothing. Allowed: {', '.join(TAKES.get(command, ()))}"
    instead = INSTEAD.get(command, {})
    return [
        f"{name}: has no effect: "
        + (f"{instead[name]} says it. Allowed: left out" if name in instead else why)
        + f". Received: {_said(value)}"
        for name, value in _given(spec, "")
        if not takes(command, name)
        # A model of one's own says so by itself.
        and not (name == "backbone.weights" and spec.backbone.given)
    ]


def taken(fields: dict[str, Any], command: str) -> tuple[dict[str, Any], list[str]]:
    """Return what a command goes by of a recipe, which is written for training; names of the rest.

    Args:
        fields: of the recipe, nested as in YAML.
    """
    kept: dict[str, Any] = {}
    others: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            rest = {key: x for key, x in value.items() if takes(command, f"{name}.{key}")}
            others += [f"{name}.{key}" for key in value if key not in rest]
            kept |= {name: rest} if rest else {}
        elif takes(command, "backbone.name" if name == "backbone" else name):
            kept[name] = value
        else:
            others.append(name)
    return kept, others


def find_idle(spec: Any, callbacks: bool = False) -> list[str]:
    """Return a sentence for each option of a `RunSpec` that was given and has no effect.

    Nothing is said of what depends on the data: whether `regime: auto` trains the head alone, say.

    Args:
        callbacks: the user passed Keras callbacks, for which a head is fitted.
    """
    given = dict(_given(spec, ""))
    reasons: dict[str, str] = {}
    for names, why in _rules(spec, given, callbacks):
        for name in names:
            reasons.setdefault(name, why)
    return [
        f"{name}: has no effect: {reasons[name]}. Received: {_said(value)}"
        for name, value in given.items()
        if name in reasons
    ]


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given(part: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each option that was given and is not as it is by default."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if hasattr(value, "model_fields_set"):
            yield from _given(value, f"{before}{name}.")
        elif name in part.model_fields_set and value != _default(part, name):
            yield f"{before}{name}", value


def _default(part: Any, name: str) -> Any:
    return type(part).model_fields[name].get_default(call_default_factory=True)


def _rules(spec: Any, given: dict[str, Any], callbacks: bool) -> Iterator[tuple[Any, str]]:
    """Yield names of options, and why they have no effect."""
    head, rates = spec.head, spec.optimizer
    alone = _head_alone(spec)
    varied = spec.kept_views == 1 and _varied(spec)
    asked = callbacks or spec.epochs is not None or varied
    fitted, solves = options_of(spec).fitted, _solves(spec)
    frozen = options_of(spec).frozen
    if alone and solves and (head.solver == "lbfgs" or not asked or frozen):
        names = [*FITTED, *(name for name in given if name.startswith("optimizer."))]
        names += ["mixup", "cutmix", *(["augment"] if varied else [])]
        other = (
            "another detector.kind" if frozen else "head.solver=fit, or a regime that trains more"
        )
        why = f"the head is all that is trained, and it is solved. Allowed: {other}"
        yield ([*names, "epochs"] if frozen else names), why
    if not head.hidden:
        yield LINEAR, "it belongs to hidden layers. Allowed: with head.hidden, such as [256]"
    if (not solves and not fitted) or (alone and solves and head.solver == "auto" and asked):
        yield ["head.strength"], "the head is fitted, not solved. Allowed: with a solved head"
    new = alone or spec.backbone.weights == "none" or options_of(spec).dense
    if rates.name == "adam" or (rates.name == "auto" and new):  # adam trains new layers
        yield ["optimizer.momentum"], "adam has none. Allowed: with optimizer.name=sgd"
    schedule = _schedule(spec, alone)
    for name, owners in SCHEDULES.items():
        if schedule and schedule not in owners:
            yield [name], f"the schedule is {schedule}. Allowed: with {owners[0]}"
    yield from _of_backbone(spec, alone)


def _of_backbone(spec: Any, alone: bool) -> Iterator[tuple[Any, str]]:
    """Yield what depends on the layers that are trained."""
    if alone:
        why = "the whole backbone is frozen. Allowed: with a regime or freeze that trains blocks"
        yield ["optimizer.block_decay"], why
        if spec.batchnorm != "frozen":
            yield ["batchnorm"], why
    elif not spec.backbone.given and not lookup(spec.backbone.name).batchnorm:
        yield ["batchnorm"], f"{spec.backbone.name} has no BatchNorm. Allowed: auto"
    scratch = spec.backbone.weights == "none" and (
        spec.freeze == "none" or (spec.freeze == "auto" and spec.regime in ("auto", "large"))
    )
    if scratch:
        why = "all is trained from the start. Allowed: where features are frozen first"
        yield ["augmented_copies", "cache_size"], why


def _head_alone(spec: Any) -> bool:
    """Tell whether the spec says that the backbone stays frozen."""
    if spec.budget is not None:
        return False
    if options_of(spec).frozen:
        return True
    return spec.freeze == "all" or (spec.freeze == "auto" and spec.regime == "small")


def _solves(spec: Any) -> bool:
    """Tell whether the spec lets a head on frozen features be solved."""
    return not spec.head.hidden and spec.head.solver != "fit" and not options_of(spec).fitted


def _varied(spec: Any) -> bool:
    """Tell whether training images are changed in each epoch although all is frozen."""
    return spec.augment not in ("auto", "none") or bool(spec.mixup or spec.cutmix)


def _schedule(spec: Any, alone: bool) -> str | None:
    """Return the one schedule of all fitted phases, as far as the spec says; None: open."""
    if spec.optimizer.schedule != "auto":
        return spec.optimizer.schedule
    if options_of(spec).dense:
        return "cosine"
    if alone:
        return "plateau"
    tuned = spec.budget is not None or spec.freeze == "none"
    tuned = tuned or (spec.freeze == "auto" and spec.regime in ("medium", "large"))
    solved = _solves(spec)
    # The head's own phase, if it is fitted, has another schedule than what comes after it.
    return "cosine" if tuned and (solved or spec.backbone.weights == "none") else None
