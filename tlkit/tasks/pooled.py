"""From a feature map to what an output layer reads: pooling, hidden FC layers, dropout."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from tlkit.errors import BackboneError
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.task import HEAD_INPUT, Task

POOLED = HEAD_INPUT
"""The layer behind the pooling."""

PREDICTIONS = "predictions"

GEM_POWER = 3.0
"""Exponent of generalised-mean pooling at which Radenovic et al. 2019 (section 3.2) start."""

GEM_FLOOR = 1e-6
"""Smallest value that is raised to `GEM_POWER` and its root (same paper, their code)."""


def read_by_head(
    task: Task, features: keras.KerasTensor, pyramid: Callable[[], dict[int, keras.KerasTensor]]
) -> keras.KerasTensor | dict[int, keras.KerasTensor]:
    """Return what a task's head reads of a backbone.

    Args:
        features: its last feature map.
        pyramid: returns its maps by stride.

    Raises:
        BackboneError: it has none of those that the task asks for.
    """
    if not task.strides:
        return features
    there = pyramid()
    levels = {stride: there[stride] for stride in task.strides if stride in there}
    if not levels:
        raise BackboneError(
            f"backbone: has no feature map that the task {task.name} can read. Allowed: one that "
            f"ends blocks at strides {', '.join(map(str, task.strides))}, some of them. Received: "
            f"strides {', '.join(map(str, there)) or 'none'}"
        )
    return levels


def attach(
    inputs: keras.KerasTensor,
    features: keras.KerasTensor | dict[int, keras.KerasTensor],
    task: Task,
    head: HeadSpec,
    bias: np.ndarray | None = None,
) -> keras.Model:
    """Return the whole model: RGB 0-255 in, the task's outputs out; built-in layers only.

    Args:
        inputs: (batch, size, size, 3).
        features: (batch, height, width, channels), computed from `inputs`; or several by stride.
        bias: of the output layer at the start (outputs,); None: zeros.
    """
    model = keras.Model(inputs, task.head(features, head))
    if bias is not None:
        layer = model.get_layer(PREDICTIONS)
        layer.set_weights([layer.get_weights()[0], bias])
    return model


def pooled(features: keras.KerasTensor, head: HeadSpec, name: str = POOLED) -> keras.KerasTensor:
    """Return pooled features (batch, n) behind the hidden layers of a head.

    Args:
        name: of the layer that pools last.
    """
    x = _pool(features, head.pooling, name)
    for i, units in enumerate(head.hidden, start=1):
        x = _hidden(x, units, head, f"head_hidden_{i}")
    if head.dropout:
        x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    return x


def _pool(features: keras.KerasTensor, kind: str, name: str) -> keras.KerasTensor:
    average, highest = keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D
    if kind == "avg":
        return average(name=name)(features)
    if kind == "max":
        return highest(name=name)(features)
    if kind == "concat":
        both = [average(name="head_average")(features), highest(name="head_maximum")(features)]
        return keras.layers.Concatenate(name=name)(both)
    if features.dtype != "float32":  # the third power of half floats ends at 40
        features = keras.ops.cast(features, "float32")
    raised = keras.ops.power(keras.ops.maximum(features, GEM_FLOOR), GEM_POWER)
    mean = keras.ops.power(average(name="head_average")(raised), 1 / GEM_POWER)
    return keras.layers.Identity(name=name)(mean)


def _hidden(x: keras.KerasTensor, units: int, head: HeadSpec, name: str) -> keras.KerasTensor:
    # A bias before BatchNorm would be taken off again by its mean.
    dense = keras.layers.Dense(units, use_bias=not head.batchnorm, name=name, **weights_of(head))
    x = dense(x)
    if head.batchnorm:
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    if head.activation == "prelu":
        return keras.layers.PReLU(name=f"{name}_prelu")(x)
    return keras.layers.Activation(head.activation, name=f"{name}_{head.activation}")(x)


def weights_of(head: HeadSpec) -> dict:
    """Return how a head's kernels start and are penalised."""
    penalty = keras.regularizers.L2(head.l2) if head.l2 else None
    return {"kernel_initializer": head.initializer, "kernel_regularizer": penalty}
