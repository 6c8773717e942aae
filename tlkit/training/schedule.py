"""Optimizers of the fitted phases, their learning rates, and what ends them early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tlkit.planning.freezing import block_names
from tlkit.planning.phases import Phase
from tlkit.spec.parts import OptimizerSpec


def make_optimizer(
    phase: Phase, options: OptimizerSpec, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a fitted phase, its schedule inside.

    Weight decay is decoupled and reaches kernels only: decaying biases, BatchNorm's scale or its
    offset has no use (He et al. 2019, section 3.1). With `options.block_decay` each block has an
    optimizer of its own in a `MultiOptimizer`.
    """
    blocks = _trained_blocks(phase, model)
    if options.block_decay == 1 or not blocks:
        return _optimizer(phase, options, model.trainable_variables, steps_per_epoch)
    own = {v.path for variables in blocks.values() for v in variables}
    rest = [v for v in model.trainable_variables if v.path not in own]
    by_path = {}
    for depth, (block, variables) in enumerate(blocks.items(), start=1):
        factor = options.block_decay**depth
        made = _optimizer(phase, options, variables, steps_per_epoch, factor, block)
        by_path |= {v.path: made for v in variables}
    head = _optimizer(phase, options, rest, steps_per_epoch, name="head")
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(head, by_path))


class ScaledParts(keras.optimizers.LossScaleOptimizer):
    """Shows Keras's callbacks, which look for rates, the parts of a `MultiOptimizer` inside."""

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        return self.inner_optimizer.optimizers


def scaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.LossScaleOptimizer:
    """Return `optimizer` with the loss scaled up: small gradients in float16 would vanish."""
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return ScaledParts(optimizer)
    return keras.optimizers.LossScaleOptimizer(optimizer)


def peak_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Return the present rate; where blocks have rates of their own, the highest: the head's."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return max(float(part.learning_rate) for part in optimizer.optimizers)
    return float(optimizer.learning_rate)


class Averages(keras.callbacks.SwapEMAWeights):
    """Puts the averaged weights into the model from validation to the end of the epoch.

    Keras's own takes them out when validation ends, before the best are kept: with it the figures
    would be those of the averages and the weights kept those of the last step. Must come after all
    callbacks that look at the weights at the end of an epoch.
    """

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave them in."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take them out again."""
        super().on_test_end(logs)


def counting_callbacks(phase: Phase, options: OptimizerSpec) -> list[keras.callbacks.Callback]:
    """Return those of Keras's callbacks that count epochs without gain."""
    made: list[keras.callbacks.Callback] = []
    if phase.schedule == "plateau":
        factor, patience = options.plateau_factor, options.plateau_patience
        made.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor, patience))
    if options.patience:
        made.append(keras.callbacks.EarlyStopping("val_loss", patience=options.patience))
    return made


def _trained_blocks(phase: Phase, model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Return the trainable variables of each trained block, from the head downwards."""
    layers = {layer.name: layer for layer in model.layers}
    found: dict[str, list[keras.Variable]] = {}
    for block in reversed(block_names(phase.freeze.layers)):
        names = [info.name for info in phase.freeze.layers if info.block == block]
        variables = [v for n in names if n in layers for v in layers[n].trainable_variables]
        if variables:
            found[block] = variables
    return found


def _optimizer(
    phase: Phase,
    options: OptimizerSpec,
    variables: Sequence[keras.Variable],
    steps_per_epoch: int,
    factor: float = 1.0,
    name: str | None = None,
) -> keras.optimizers.Optimizer:
    rate = _rate(phase, options, factor * phase.learning_rate, steps_per_epoch)
    fields = {"weight_decay": options.weight_decay or None, "name": name or phase.optimizer}
    if options.ema:
        fields |= {"use_ema": True, "ema_momentum": options.ema}
    if phase.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, options.momentum, nesterov=True, **fields)
    else:
        # Keras's Adam decays its weights decoupled as AdamW does, once it is given a decay.
        optimizer = keras.optimizers.Adam(rate, **fields)
    # Must be set before `build`.
    optimizer.exclude_from_weight_decay([v for v in variables if v.ndim < 2])
    return optimizer


def _rate(phase: Phase, options: OptimizerSpec, peak: float, steps_per_epoch: int):
    if phase.schedule != "cosine":
        return peak
    steps = phase.epochs * steps_per_epoch
    warmup = round(options.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else peak,
        max(1, steps - warmup),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )
