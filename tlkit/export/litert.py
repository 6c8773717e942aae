"""LiteRT, formerly TensorFlow Lite: for phones and small machines; float32, float16 or int8."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkit.compute.cores import CORES
from tlkit.errors import ExportError, printable
from tlkit.export.about import BESIDE, IMAGE, About
from tlkit.export.network import network_of

FILE = "model.tflite"
LABELS = "labels.txt"
"""What tools for Android and MediaPipe look for in a file: a label a line."""

LARGEST = 2**26
"""Bytes that a description is read up to: a small archive may hold gigabytes of zeros."""

SIGNATURE = "serving_default"

Calibration = Callable[[], Sequence[np.ndarray]]
"""Gives resized training images float32 (size, size, 3), 0-255."""


def write(
    model: keras.Model, about: About, folder: Path, calibration: Calibration, precision: str
) -> None:
    """Write `model` as `FILE`, for one image at a time, with LiteRT's built-in operations alone.

    Its input `image` is float32 (1, size, size, 3), RGB 0-255, its outputs bear the names of
    `Task.answer`. The file is a zip archive as well, as LiteRT's metadata have it, and holds
    `export.json` and `labels.txt`.

    Args:
        precision: `float32`; `float16`: weights are stored in half precision; `int8`: weights and
            all activations are quantised by post-training quantisation (Jacob et al. 2018), and
            input and outputs are uint8.

    Raises:
        ExportError: the network needs other operations.
    """
    network = network_of(model, about.task, batch=1)
    images = calibration() if precision == "int8" else ()
    with tempfile.TemporaryDirectory() as saved, _quiet():
        _save(network, model.input_shape[1:], saved)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        _set(converter, precision, images)
        try:
            content = converter.convert()
        except Exception as error:  # ConverterError, RuntimeError and others of its passes
            reason = printable(next(iter(str(error).strip().splitlines()), ""))[:300]
            raise ExportError(
                f"export {about.kind}: LiteRT's built-in operations do not suffice for this "
                f"network, or its converter failed: {reason}"
            ) from error
    file = folder / FILE
    file.write_bytes(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(BESIDE, json.dumps(about.to_json(), ensure_ascii=False))
        archive.writestr(LABELS, "".join(f"{printable(x)}\n" for x in about.task.outputs))
    if precision == "int8":
        check_integer(file)


write_float32 = partial(write, precision="float32")
write_float16 = partial(write, precision="float16")
write_int8 = partial(write, precision="int8")


def _save(network: Any, shape: tuple[int, ...], folder: str) -> None:
    """Save the network as a SavedModel: of such, the converter keeps names."""

    @tf.function(input_signature=[tf.TensorSpec((1, *shape), tf.float32, IMAGE)], autograph=False)
    def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = network.graph(image)
        found = found if isinstance(found, list | tuple) else [found]
        return dict(zip(network.names, found, strict=True))

    tf.saved_model.save(tf.Module(), folder, {SIGNATURE: call.get_concrete_function()})


def _set(converter: Any, precision: str, images: Sequence[np.ndarray]) -> None:
    """Set what a converter does; it would take operations of TensorFlow if not forbidden."""
    operations = tf.lite.OpsSet
    converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS]
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return
    converter.representative_dataset = lambda: ({IMAGE: image[None]} for image in images)
    converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the converter writes of its own steps to standard output and error from a person:
    it comes from C++, past Python."""
    with contextlib.ExitStack() as after:
        after.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of its own interpreter, which is to move out
        null = after.enter_context(Path(os.devnull).open("wb"))
        for stream in (1, 2):
            kept = os.dup(stream)
            after.callback(os.close, kept)
            after.callback(os.dup2, kept, stream)
            os.dup2(null.fileno(), stream)
        yield


def check_integer(file: Path) -> None:
    """Check that nothing in a file is computed in floating point.

    Raises:
        ExportError: something is.
    """
    details = _interpreter(file).get_tensor_details()
    floats = [d["name"] for d in details if np.issubdtype(np.dtype(d["dtype"]), np.floating)]
    if floats:
        raise ExportError(
            f"export litert-int8: {len(floats)} of {len(details)} tensors stay in floating point, "
            f"such as {printable(floats[0])[:80]}. Allowed for this network: litert, litert-float16"
        )


def _interpreter(file: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with _quiet():
        found = Interpreter(model_path=str(file), num_threads=CORES)
        found.allocate_tensors()
        return found


def open(file: Path) -> tuple[Any, Callable[[np.ndarray], dict[str, np.ndarray]]]:
    """Return what a file says of itself (None: nothing that tlkit wrote), and what answers
    images."""
    inside = None
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive, contextlib.suppress(KeyError):
            if archive.getinfo(BESIDE).file_size <= LARGEST:
                inside = archive.read(BESIDE).decode("utf-8")
    interpreter = _interpreter(file)
    runner = interpreter.get_signature_runner(SIGNATURE)
    given, outputs = runner.get_input_details()[IMAGE], runner.get_output_details()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = [runner(**{IMAGE: _stored(image[None], given)}) for image in images]
        return {
            name: np.concatenate([_real(answer[name], about) for answer in answers])
            for name, about in outputs.items()
        }

    return inside, run


def _stored(values: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Return real numbers as a tensor holds them: r = scale x (q - zero) (Jacob et al. 2018)."""
    scale, zero = about["quantization"]
    if not scale:
        return values.astype(about["dtype"])
    limits = np.iinfo(about["dtype"])
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(about["dtype"])


def _real(values: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    scale, zero = about["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32) if scale else values
