"""The plan of a run: which phases, what each trains and how; pure, printed by `tlkit plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import SpecError
from tlkit.planning import rules
from tlkit.planning.freezing import FreezePlan, block_names, plan_freeze
from tlkit.spec.run import RunSpec

HEAD, FINETUNE, SCRATCH = "head", "finetune", "scratch"


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: `head` (backbone frozen), `finetune`, or `scratch` (no pretrained weights).
        method: `solve` (multinomial logistic regression) or `fit` (gradient steps).
        freeze: the backbone's layers in this phase.
        augment: whether training pictures are changed at random; then no feature can be kept.
        epochs, optimizer, learning_rate, schedule: of a fitted phase.
        reasons: a sentence for each choice.
        views: of each training picture, whose features are kept.
    """

    name: str
    method: str
    freeze: FreezePlan
    augment: bool
    epochs: int
    optimizer: str
    learning_rate: float
    schedule: str
    reasons: tuple[str, ...]
    views: int = 1

    def describe(self) -> str:
        """Return what the phase does, in a line."""
        if self.freeze.all_frozen:
            what = "the head on frozen features"
        elif self.freeze.cut is None:
            what = "the head and the whole backbone" if not self.freeze.frozen else self.freeze.rule
        else:
            what = f"the head and all after {self.freeze.cut}"
        if self.views > 1:
            what += f", {self.views} views of each picture"
        if self.method == "solve":
            return f"{what}, solved"
        return (
            f"{what}, {self.optimizer} at {self.learning_rate:g} ({self.schedule}), "
            f"at most {self.epochs} epochs"
        )


@dataclass(frozen=True)
class TrainPlan:
    """What a run will do, and why; `estimate`: what it will take (`tlkit.commands.estimate`)."""

    regime: rules.Choice
    examples: int
    classes: int
    phases: tuple[Phase, ...]
    estimate: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `plan.json`."""
        return {
            "regime": self.regime.value,
            "reason": self.regime.reason,
            "examples": self.examples,
            "classes": self.classes,
            "phases": [_phase_json(phase) for phase in self.phases],
            **({"estimate": self.estimate} if self.estimate else {}),
        }


def _phase_json(phase: Phase) -> dict[str, Any]:
    fitted = {
        "epochs": phase.epochs,
        "optimizer": phase.optimizer,
        "learning_rate": phase.learning_rate,
        "schedule": phase.schedule,
    }
    return {
        "name": phase.name,
        "method": phase.method,
        "freeze": phase.freeze.rule,
        "cut": phase.freeze.cut,
        "batchnorm": phase.freeze.batchnorm,
        "augment": phase.augment,
        "views": phase.views,
        **(fitted if phase.method == "fit" else {}),
        "reasons": list(phase.reasons),
        "blocks": [
            {
                "block": row.block,
                "layers": row.layers,
                "parameters": row.parameters,
                "state": row.state,
            }
            for row in phase.freeze.table()
        ],
    }


def make_plan(
    spec: RunSpec,
    layers: Sequence[LayerInfo],
    examples: int,
    classes: int,
    callbacks: bool = False,
) -> TrainPlan:
    """Plan a run.

    Args:
        layers: the backbone's layers in graph order.
        examples: number of training examples.
        callbacks: the user passed callbacks, which a solved head would never call.

    Raises:
        FreezeError: `spec.freeze` cannot be read or matches nothing.
        SpecError: `head.refit`, and the head is not all that is trained, or not solved.
    """
    pretrained = spec.backbone.weights != "none"
    if spec.regime == "auto":
        regime = rules.choose_regime(examples, classes, pretrained)
    else:
        regime = rules.Choice(spec.regime, f"as asked for; {examples:,} training examples")
    rule, reason = _freeze_rule(spec, layers, str(regime.value))
    batchnorm = spec.batchnorm
    if batchnorm == "auto":
        batchnorm = "frozen" if pretrained else "train"
    freeze = plan_freeze(layers, rule, batchnorm)
    frozen = plan_freeze(layers, "all", batchnorm)

    last = HEAD if freeze.all_frozen else FINETUNE if pretrained else SCRATCH
    phases = []
    if spec.budget is not None:
        return TrainPlan(regime, examples, classes, _deepening(spec, layers, batchnorm, examples))
    if last == FINETUNE:
        why = "a good head first, so that its first gradients do not harm the features (LP-FT)"
        phases.append(_phase(spec, HEAD, frozen, examples, False, False, why))
    augment = _augments(spec, freeze)
    asked = callbacks or spec.epochs is not None or augment
    phases.append(_phase(spec, last, freeze, examples, augment, asked, reason))
    _check_refit(spec, phases, str(regime.value))
    return TrainPlan(regime, examples, classes, tuple(phases))


def _deepening(
    spec: RunSpec, layers: Sequence[LayerInfo], batchnorm: str, examples: int
) -> tuple[Phase, ...]:
    """Return the head and ever deeper phases; which are run, and for how long, is measured."""
    frozen = plan_freeze(layers, "all", batchnorm)
    why = "a budget: first the head, then deeper while validation gains"
    phases = [_phase(spec, HEAD, frozen, examples, False, False, why)]
    blocks = len(block_names(layers))
    for n, last in enumerate(rules.depths(blocks), start=1):
        freeze = plan_freeze(layers, "none" if last == blocks else f"last={last}", batchnorm)
        augment = _augments(spec, freeze)
        why = f"the last {last} of {blocks} blocks, if the phase before gained and time is left"
        phase = _phase(spec, FINETUNE, freeze, examples, augment, True, why)
        phases.append(replace(phase, name=FINETUNE if n == 1 else f"{FINETUNE}-{n}"))
    return tuple(phases)


def _views(spec: RunSpec, freeze: FreezePlan) -> int:
    """Return of how many views features are kept; where nothing is frozen first, there are none."""
    return spec.kept_views if freeze.all_frozen or freeze.cut is not None else 1


def _augments(spec: RunSpec, freeze: FreezePlan) -> bool:
    """Tell whether pictures are changed anew in each epoch; kept views take its place."""
    if _views(spec, freeze) > 1:
        return False
    asked = spec.augment not in ("auto", "none") or bool(spec.mixup or spec.cutmix)
    return asked or (spec.augment == "auto" and not freeze.frozen)


def _check_refit(spec: RunSpec, phases: Sequence[Phase], regime: str) -> None:
    if spec.head.refit and (len(phases) > 1 or phases[-1].method != "solve"):
        raise SpecError(
            "head.refit: takes the validation part for training, which later phases and a head "
            "fitted by gradient steps need. Allowed where a solved head is all that is trained "
            f"(--regime small, no epochs or callbacks). Received: refit with the {regime} regime "
            f"and {' and '.join(f'{phase.name} ({phase.method})' for phase in phases)}"
        )


def _freeze_rule(spec: RunSpec, layers: Sequence[LayerInfo], regime: str) -> tuple[str, str]:
    if spec.freeze != "auto":
        return spec.freeze, f"freeze {spec.freeze}, as asked for"
    blocks = len(block_names(layers))
    choice = rules.blocks_to_train(regime, blocks)
    if choice.value == 0:
        return "all", choice.reason
    return ("none" if choice.value == blocks else f"last={choice.value}"), choice.reason


def _phase(
    spec: RunSpec,
    name: str,
    freeze: FreezePlan,
    examples: int,
    augment: bool,
    asked_to_fit: bool,
    reason: str,
) -> Phase:
    linear = freeze.all_frozen and not spec.head.hidden
    solve = linear and (
        spec.head.solver == "lbfgs" or (spec.head.solver == "auto" and not asked_to_fit)
    )
    options = spec.optimizer
    optimizer = options.name
    if optimizer == "auto":
        optimizer = "sgd" if name == FINETUNE else "adam"
    schedule = options.schedule
    if schedule == "auto":
        schedule = "plateau" if name == HEAD else "cosine"
    epochs = rules.epochs(name, examples, spec.batch_size)
    rate = rules.learning_rate(name, optimizer, spec.batch_size)
    reasons = [reason]
    if solve:
        reasons.append(
            "a linear head on fixed features is a convex problem: solved, not fitted; dropout, "
            "penalties and optimizer play no part"
        )
    else:
        reasons.append(f"epochs: {epochs.reason if spec.epochs is None else 'as asked for'}")
        reasons.append(f"rate: {rate.reason if not options.learning_rate else 'as asked for'}")
        if augment:
            reasons.append(_augmentation(spec))
    views = _views(spec, freeze)
    if views > 1:
        reasons.append(f"views: {views} of each picture are kept, {_level(spec)}")
    if spec.balance != "none":
        reasons.append(f"balance: {spec.balance} by inverse class frequency, in training alone")
    return Phase(
        name,
        "solve" if solve else "fit",
        freeze,
        augment and not solve,
        spec.epochs or int(epochs.value),
        optimizer,
        options.learning_rate or float(rate.value),
        schedule,
        tuple(reasons),
        views,
    )


def _level(spec: RunSpec) -> str:
    return f"{spec.augment_level}{'' if spec.mirror else ', not mirrored'}"


def _augmentation(spec: RunSpec) -> str:
    words = [_level(spec)]
    words += [f"{name} {value:g}" for name in ("mixup", "cutmix") if (value := getattr(spec, name))]
    return f"augment: {', '.join(words)}; other pictures in each epoch, so no feature is kept"
