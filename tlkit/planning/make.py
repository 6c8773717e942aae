"""Makes the plan of a run from its spec and the size of its data; pure, printed by `tlkit plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import SpecError
from tlkit.planning import rules
from tlkit.planning.freezing import FreezePlan, block_names, plan_freeze
from tlkit.planning.phases import FINETUNE, HEAD, SCRATCH, Phase, TrainPlan, keeps_features
from tlkit.spec.run import RunSpec
from tlkit.spec.task_options import options_of


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
        SpecError: `head.refit`, and the head is not all that is trained, or not solved; callbacks
            where nothing is ever fitted.
    """
    if callbacks and options_of(spec).frozen:
        raise SpecError(
            f"callbacks: would never be called, detector.kind={spec.detector.kind} is solved. "
            "Allowed: with a kind that is fitted. Received: some"
        )
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
    return spec.kept_views if keeps_features(freeze, augment=False) else 1


def _augments(spec: RunSpec, freeze: FreezePlan) -> bool:
    """Tell whether images are changed anew in each epoch; kept views take its place."""
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
    if options_of(spec).frozen:
        return "all", f"detector.kind={spec.detector.kind}: solved, on a frozen backbone"
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
        options_of(spec).frozen
        or spec.head.solver == "lbfgs"
        or (spec.head.solver == "auto" and not asked_to_fit)
    )
    augment = augment and not solve
    reasons, fitted = [reason], {}
    if solve:
        reasons.append(
            "a linear head on fixed features is a convex problem: solved, not fitted; dropout, "
            "penalties and optimizer play no part"
        )
    else:
        fitted, why = _fitted(spec, name, examples)
        reasons += why
        if augment:
            reasons.append(_augmentation(spec))
    views = _views(spec, freeze)
    if views > 1:
        reasons.append(f"augmented copies: {views - 1} of each image are kept, {_level(spec)}")
    if spec.balance != "none":
        reasons.append(f"balance: {spec.balance} by inverse class frequency, in training alone")
    method, kept = "solve" if solve else "fit", keeps_features(freeze, augment)
    return Phase(name, method, freeze, augment, kept, tuple(reasons), views=views, **fitted)


def _fitted(spec: RunSpec, name: str, examples: int) -> tuple[dict[str, Any], list[str]]:
    """Return the values of `FITTED` for a phase, and why they are these."""
    options, dense = spec.optimizer, options_of(spec).dense
    boxes = options_of(spec).boxes and name == FINETUNE
    optimizer = options.name
    if optimizer == "auto":
        optimizer = "sgd" if name == FINETUNE and not (dense or boxes) else "adam"
    schedule = options.schedule
    if schedule == "auto":
        schedule = "plateau" if name == HEAD and not dense else "cosine"
    if dense:
        detects = options_of(spec).detects
        epochs = (rules.detector_epochs if detects else rules.decoder_epochs)(name, examples)
        rate = rules.decoder_rate(name, optimizer, spec.batch_size)
    elif boxes:
        epochs, rate = rules.box_epochs(examples), rules.box_rate(optimizer, spec.batch_size)
    else:
        epochs = rules.epochs(name, examples, spec.batch_size)
        rate = rules.learning_rate(name, optimizer, spec.batch_size)
    values = {
        "epochs": spec.epochs or int(epochs.value),
        "optimizer": optimizer,
        "learning_rate": options.learning_rate or float(rate.value),
        "schedule": schedule,
    }
    reasons = [
        f"epochs: {epochs.reason if spec.epochs is None else 'as asked for'}",
        f"rate: {rate.reason if not options.learning_rate else 'as asked for'}",
    ]
    return values, reasons


def _level(spec: RunSpec) -> str:
    return f"{spec.augment_level}{'' if spec.mirror else ', not mirrored'}"


def _augmentation(spec: RunSpec) -> str:
    words = [_level(spec)]
    words += [f"{name} {value:g}" for name in ("mixup", "cutmix") if (value := getattr(spec, name))]
    return f"augment: {', '.join(words)}; other images in each epoch, so no feature is kept"


def revised(plan: TrainPlan, began: RunSpec | None, now: RunSpec) -> TrainPlan:
    """Return a run's plan with what was asked for otherwise before the run goes on.

    That is how fitted phases are fitted: epochs, optimizer, and the rate of another batch size.

    Args:
        began: the spec that the run was started with; None: of an earlier version, which kept none
            and took these values from the spec as it is.

    Raises:
        SpecError: something was asked for that has no effect, as no phase is fitted.
    """
    asked = [n for n in ("epochs", "optimizer") if began and getattr(began, n) != getattr(now, n)]
    if asked and all(phase.method == "solve" for phase in plan.phases):
        raise SpecError(
            f"{', '.join(asked)}: has no effect, the run's plan solves the head and fits nothing. "
            "Allowed: as the run was started with, or train anew"
        )
    phases = []
    for phase in plan.phases:
        if phase.method == "fit":
            kind = phase.name.partition("-")[0]  # later phases of a budget are numbered: finetune-2
            values, _ = _fitted(now, kind, plan.examples)
            before = _fitted(began, kind, plan.examples)[0] if began else {}
            phase = replace(phase, **dict(values.items() - before.items()))
        phases.append(phase)
    return replace(plan, phases=tuple(phases))
