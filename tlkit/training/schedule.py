"""Optimizers and learning-rate schedules of the fitted phases."""

from __future__ import annotations

import keras

from tlkit.parts import OptimizerSpec
from tlkit.training.phases import Phase


def make_optimizer(
    phase: Phase, options: OptimizerSpec, model: keras.Model, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a fitted phase, its schedule inside.

    Weight decay is decoupled and reaches kernels only: decaying biases, BatchNorm's scale or its
    offset has no use (He et al. 2019, section 3.1). The exclusion must be set before `build`.
    """
    rate = _rate(phase, options, steps_per_epoch)
    decay = {"weight_decay": options.weight_decay or None}
    if phase.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, options.momentum, nesterov=True, **decay)
    else:
        # Keras's Adam decays its weights decoupled as AdamW does, once it is given a decay.
        optimizer = keras.optimizers.Adam(rate, **decay)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if v.ndim < 2])
    return optimizer


def _rate(phase: Phase, options: OptimizerSpec, steps_per_epoch: int):
    if phase.schedule != "cosine":
        return phase.learning_rate
    steps = phase.epochs * steps_per_epoch
    warmup = round(options.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else phase.learning_rate,
        max(1, steps - warmup),
        warmup_target=phase.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
