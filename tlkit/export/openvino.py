"""OpenVINO: a network as `model.xml` and `model.bin`, for the processors and GPUs it runs on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.compute.compilers import to_openvino
from tlkit.export.about import IMAGE, KEY, About
from tlkit.export.network import network_of

FILE, WEIGHTS = "model.xml", "model.bin"

FULL = {"INFERENCE_PRECISION_HINT": "f32"}
"""Else a processor that has bfloat16 computes in it (OpenVINO's documentation, "Precision
Control")."""


def write(model: keras.Model, about: About, folder: Path, calibration: Any = None) -> None:
    """Write `model` as `FILE` and `WEIGHTS`, in float32.

    Its input `image` is float32 (any, size, size, 3), RGB 0-255, its outputs bear the names of
    `Task.answer`. `rt_info` holds what `about` says under `KEY`, and the labels, as JSON.
    """
    import openvino

    network = network_of(model, about.task)
    graph = network.graph
    converted = to_openvino(graph, openvino.Core())
    converted.inputs[0].get_tensor().set_names({IMAGE})
    order = [output.get_names() for output in converted.outputs]
    for tensor, name in zip(graph.outputs, network.names, strict=True):
        place = next(i for i, own in enumerate(order) if tensor.name in own)
        converted.outputs[place].get_tensor().set_names({name})
    described = {"about": about.to_json(), "labels": list(about.task.outputs)}
    for key, content in described.items():
        converted.set_rt_info(json.dumps(content, ensure_ascii=False), [KEY, key])
    openvino.save_model(converted, folder / FILE, compress_to_fp16=False)


def open(file: Path) -> tuple[Any, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """Return what a file says of itself (None: nothing that tlkit wrote), and what answers
    images."""
    import openvino

    core = openvino.Core()
    network = core.read_model(file)
    path = [KEY, "about"]
    inside = network.get_rt_info(path).value if network.has_rt_info(path) else None
    compiled = core.compile_model(network, "CPU", FULL)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = compiled({IMAGE: images})
        # They are OpenVINO's own memory, written over by the next batch.
        return {output.get_any_name(): np.array(answers[output]) for output in compiled.outputs}

    return inside, run
