"""Networks compiled by other libraries than Keras: each gives a function of a batch of images.

All start from TensorFlow's graph with its weights as constants, and compute in float32 on a CPU,
TensorFlow's own on whatever device there is.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.compute.cores import CORES

Function = Callable[[np.ndarray], np.ndarray | list[np.ndarray]]
"""Gives, as `predict_on_batch` of Keras does, an array, or a list of them for several outputs."""

STREAMS = 8
"""Most images that OpenVINO computes side by side: a batch of 32 in pieces must keep all busy."""

PIECE = 2
"""Images that a stream of OpenVINO takes at once. Measured on two cores, images/s for pieces of
1, 2, 4, 8 and whole batches of 32 on all cores: MobileNetV2 285, 297, 236, 223 and 187,
EfficientNetB0 171, 167, 158, 141 and 131, ResNet50 30 to 31: activations of few images stay in
the processor's cache."""


def as_list(outputs: Any) -> list[np.ndarray]:
    """Return the outputs of a network as arrays, however many there are."""
    several = isinstance(outputs, list | tuple)
    return [np.asarray(output) for output in (outputs if several else [outputs])]


def _as_keras(outputs: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    return outputs if len(outputs) > 1 else outputs[0]


def frozen_graph(model: keras.Model) -> Any:
    """Return `model` in inference mode as a TensorFlow function with constants for weights.

    Training-mode work (dropout, batch statistics) is not in it, and TensorFlow's optimiser can
    fold BatchNorm into the convolutions, which it cannot do with variables.
    """
    import tensorflow as tf

    shape = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(shape)
    return with_constants(traced)


def with_constants(traced: Any) -> Any:
    """Return a concrete function of TensorFlow with constants in the place of its variables."""
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    return convert_variables_to_constants_v2(traced)


def by_tensorflow(graph: Any) -> Function:
    """Return the graph itself as a function; it takes batches of any size."""
    import tensorflow as tf

    (given,) = graph.inputs

    # Called by itself, the graph first fails on a signature that it does not know, and for the
    # message, which nobody sees, the batch is printed: a quarter of the time of a few layers.
    @tf.function(input_signature=[tf.TensorSpec(given.shape, given.dtype)], autograph=False)
    def call(x: tf.Tensor) -> Any:
        return graph(x)

    # The head of a network in half precision: kept features come as float32.
    return lambda x: _as_keras(as_list(call(tf.cast(x, given.dtype))))


def compile_openvino(graph: Any) -> Function:
    """Return the graph on OpenVINO's CPU plugin, batches in pieces on all cores side by side."""
    import openvino

    streams = min(STREAMS, CORES)
    # Else a processor that has bfloat16 computes in it, at twice the speed: activations are then
    # off by 10% (12 flowers) to 25% (5 flowers) of their deviation. Heads solved on such lost
    # nothing there in the float32 model (three seeds each: +0.1 and +0.2 points), but a point on a
    # third set, and no check on a few images tells one case from the other beforehand.
    settings = {"NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    network = to_openvino(graph, core)
    if None not in (side := tuple(graph.inputs[0].shape[1:])):
        network.reshape([PIECE, *side])  # plans for one size are quicker than those for any
    compiled = core.compile_model(network, "CPU", settings)
    # Twice as many as are computed at a time: a stream finds its next piece waiting.
    queue = openvino.AsyncInferQueue(compiled, 2 * streams)
    pieces: dict[int, list[np.ndarray]] = {}
    names = [output.get_names() for output in compiled.outputs]
    places = [next(i for i, own in enumerate(names) if o.name in own) for o in graph.outputs]

    def keep(request: Any, at: int) -> None:
        # The result is OpenVINO's own memory, written over by the next piece.
        pieces[at] = [np.array(request.get_output_tensor(place).data) for place in places]

    queue.set_callback(keep)

    def run(x: np.ndarray) -> np.ndarray | list[np.ndarray]:
        pieces.clear()
        for start in range(0, len(x), PIECE):
            # The last piece of an odd batch is filled up with its last image.
            chosen = np.minimum(np.arange(start, start + PIECE), len(x) - 1)
            queue.start_async({0: x[chosen]}, start)
        queue.wait_all()
        parts = zip(*(pieces[at] for at in range(0, len(x), PIECE)), strict=True)
        return _as_keras([np.concatenate(part)[: len(x)] for part in parts])

    return run


def to_openvino(graph: Any, core: Any) -> Any:
    """Return the graph as a network of OpenVINO (`openvino.Model`).

    Args:
        graph: see `frozen_graph`.
        core: an `openvino.Core`.
    """
    # Its reader of files takes half a second where `openvino.convert_model` takes three, and unlike
    # that reports nothing to its makers.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph.pb")
        file.write_bytes(graph.graph.as_graph_def().SerializeToString())
        return core.read_model(file)


def compile_onnxruntime(graph: Any) -> Function:
    """Return the graph, converted by tf2onnx, on ONNX Runtime's CPU provider."""
    import onnxruntime

    proto = to_onnx(graph)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: _as_keras(session.run(None, {name: x}))


def to_onnx(graph: Any, **options: Any) -> Any:
    """Return the graph as an ONNX model (`onnx.ModelProto`).

    Args:
        graph: see `frozen_graph`.
        options: of `tf2onnx.convert.from_graph_def`.
    """
    # What NumPy and TensorFlow tell about outdated functions only tf2onnx can act on.
    logger = logging.getLogger("tensorflow")
    with warnings.catch_warnings(), contextlib.ExitStack() as after:
        after.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        import tf2onnx

        proto, _ = tf2onnx.convert.from_graph_def(
            graph.graph.as_graph_def(),
            input_names=[graph.inputs[0].name],
            output_names=[output.name for output in graph.outputs],
            **options,
        )
    return proto
