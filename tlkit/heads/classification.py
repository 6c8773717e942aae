"""Single-label classification: global pooling, optional hidden FC layers, dropout, softmax."""

from __future__ import annotations

import keras

from tlkit.spec import HeadSpec

POOLED = "head_pool"
"""The pooling layer: it has no weights, so frozen features are kept behind it."""

PREDICTIONS = "predictions"


def attach(inputs: keras.KerasTensor, features: keras.KerasTensor, classes: int, head: HeadSpec):
    """Return the whole model: RGB 0-255 in, class probabilities out.

    Args:
        inputs: (batch, size, size, 3).
        features: (batch, height, width, channels), computed from `inputs`.
        classes: number of classes, at least 2.

    Returns:
        A `keras.Model` of built-in layers; output float32 (batch, classes), each row adds up to 1.
    """
    pooling = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }[head.pooling]
    x = pooling(name=POOLED)(features)
    for i, units in enumerate(head.hidden, start=1):
        x = keras.layers.Dense(units, activation=head.activation, name=f"head_hidden_{i}")(x)
    if head.dropout:
        x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    # float32 whatever the backbone computes in: a softmax over half floats loses small classes.
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32", name=PREDICTIONS)(
        x
    )
    return keras.Model(inputs, outputs)


def loss() -> keras.losses.Loss:
    """Cross-entropy between class indices (n,) and probabilities (n, classes)."""
    return keras.losses.SparseCategoricalCrossentropy(name="loss")


def metrics() -> list[keras.metrics.Metric]:
    """Return the metrics shown while training."""
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
