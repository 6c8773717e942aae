"""The network of a run as one TensorFlow function with named answers, from which formats start."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tlkit.compute.compilers import with_constants
from tlkit.errors import ExportError
from tlkit.export.about import IMAGE
from tlkit.tasks.task import Task


class Network(NamedTuple):
    """A function of RGB 0-255 float32 (batch, size, size, 3), its weights constants in it.

    Attributes:
        graph: a concrete function; its only input is called `IMAGE`.
        names: of its outputs, in order, as `Task.answer` has them.
    """

    graph: Any
    names: tuple[str, ...]


def network_of(model: keras.Model, task: Task, batch: int | None = None) -> Network:
    """Return `model` in inference mode with the answers of its task.

    Args:
        model: computes in float32, see `in_float32`.
        batch: images in a batch; None: any number.

    Raises:
        ExportError: Keras runs on another backend than TensorFlow.
    """
    check_backend()
    side = model.input_shape[1:]

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes = tf.tile([side[:2]], (tf.shape(image)[0], 1))  # places are in the resized image
        return task.answer(tf.cast(model(image, training=False), tf.float32), sizes)

    shape = tf.TensorSpec((batch, *side), tf.float32, IMAGE)
    traced = tf.function(answer, autograph=False).get_concrete_function(shape)
    # TensorFlow orders what a dictionary holds by its keys (tf.nest).
    return Network(with_constants(traced), tuple(sorted(traced.structured_outputs)))


def check_backend() -> None:
    """Check that Keras runs on TensorFlow.

    Raises:
        ExportError: it does not.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "export: needs the TensorFlow backend. Allowed: KERAS_BACKEND=tensorflow (the run "
            f"folder works with every backend). Received: {keras.backend.backend()}"
        )


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model` with all its layers computing in float32, those of models in it too; itself
    where they do."""
    if _is_float32(model):
        return model

    def whole(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return in_float32(layer)
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=whole)
    copy.set_weights(model.get_weights())
    return copy


def _is_float32(model: keras.Model) -> bool:
    return all(
        _is_float32(layer)
        if isinstance(layer, keras.Model)
        else layer.compute_dtype in ("float32", None)
        for layer in model.layers
    )
