"""ONNX: any number of images in, the task's answers out; for ONNX Runtime and what reads ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.compute.compilers import to_onnx
from tlkit.errors import ExportError
from tlkit.export.about import IMAGE, KEY, About
from tlkit.export.network import network_of

FILE = "model.onnx"

OPSET = 18
"""The highest that tf2onnx 1.17 writes; its default is 15. Which ONNX Runtime reads it: "ONNX opset
support" in ONNX Runtime's documentation."""

LARGEST = 2**31
"""Bytes that a file of protobuf must stay below."""


def write(model: keras.Model, about: About, folder: Path, calibration: Any = None) -> None:
    """Write `model` as `FILE`.

    Its input `image` is float32 (batch, size, size, 3), RGB 0-255, its outputs bear the names of
    `Task.answer`. `metadata_props` holds what `about` says under `KEY`, and the labels, as JSON.

    Raises:
        ExportError: it is too large.
    """
    if model.count_params() * 4 > LARGEST:
        raise ExportError(
            f"export onnx: the network is too large for one file. Allowed: {LARGEST >> 30} GiB. "
            f"Received: {model.count_params() * 4 >> 20:,} MiB"
        )
    network = network_of(model, about.task)
    graph = network.graph
    names = {tensor.name: own for tensor, own in zip(graph.outputs, network.names, strict=True)}
    proto = to_onnx(graph, opset=OPSET, tensors_to_rename={graph.inputs[0].name: IMAGE, **names})
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    described = {KEY: about.to_json(), "labels": list(about.task.outputs)}
    for key, content in described.items():
        proto.metadata_props.add(key=key, value=json.dumps(content, ensure_ascii=False))
    (folder / FILE).write_bytes(proto.SerializeToString())


def open(file: Path) -> tuple[Any, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """Return what a file says of itself (None: nothing that tlkit wrote), and what answers
    images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inside = session.get_modelmeta().custom_metadata_map.get(KEY)
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {IMAGE: images}), strict=True))

    return inside, run
