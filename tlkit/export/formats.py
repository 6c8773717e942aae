"""The export formats by name: what each needs, how exact it is, and by which file it is known.

Without TensorFlow, so that a mistyped path or format is answered at once.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tlkit.errors import ExportError, one_of

ROUNDING = 1e-4
"""Both sides compute in float32, whose rounding through a hundred layers was seen to stay below
1e-5. Within it labels can differ only where two probabilities are equal for all purposes."""

HALF = 5e-3
"""For weights stored in half precision, of 11 bits. Not every network keeps it: one that does not
is refused. Of MobileNetV2 fine-tuned on 12 flowers a probability was off by 0.019."""


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file: by which an export is known, in its folder.
        module, writer: where and what writes it.
        runtime, converter: modules that reading and writing need beside TensorFlow.
        extra: of tlkit, which installs both.
        tolerance: largest difference from Keras, see `parity.check_parity`.
        calibrated: whether it takes training images to be written.
        about: what it is, in a line.
    """

    file: str
    module: str
    writer: str = "write"
    runtime: str = ""
    converter: str = ""
    extra: str = ""
    tolerance: float = ROUNDING
    calibrated: bool = False
    about: str = ""


FORMATS = {
    "savedmodel": Format(
        "saved_model.pb",
        "tlkit.export.savedmodel",
        about="TensorFlow: encoded images in; labels too come out",
    ),
    "onnx": Format(
        "model.onnx",
        "tlkit.export.onnx",
        runtime="onnxruntime",
        converter="tf2onnx",
        extra="onnx",
        about="ONNX Runtime and what reads ONNX",
    ),
    "litert": Format(
        "model.tflite",
        "tlkit.export.litert",
        "write_float32",
        runtime="ai_edge_litert",
        extra="litert",
        about="LiteRT (TensorFlow Lite), one image at a time",
    ),
    "litert-float16": Format(
        "model.tflite",
        "tlkit.export.litert",
        "write_float16",
        runtime="ai_edge_litert",
        extra="litert",
        tolerance=HALF,
        about="the same with weights in half precision",
    ),
    "litert-int8": Format(
        "model.tflite",
        "tlkit.export.litert",
        "write_int8",
        runtime="ai_edge_litert",
        extra="litert",
        tolerance=float("inf"),
        calibrated=True,
        about="the same in 8-bit integers throughout, calibrated on training images",
    ),
    "openvino": Format(
        "model.xml",
        "tlkit.export.openvino",
        runtime="openvino",
        extra="openvino",
        about="OpenVINO, for Intel's processors and GPUs",
    ),
}

SUFFIXES = {".onnx": "onnx", ".tflite": "litert", ".xml": "openvino"}
"""Files that are exports by themselves, and a format whose module opens them."""


def lookup(kind: str) -> Format:
    """Return the format called `kind`.

    Raises:
        ExportError: there is none.
    """
    return one_of(FORMATS, kind, "format", ExportError)


def writer_of(kind: str) -> Callable[..., None]:
    """Return what writes a format: of a model, an `About`, a folder, and what gives training
    images."""
    about = lookup(kind)
    return getattr(importlib.import_module(about.module), about.writer)


def check_installed(kind: str, writing: bool) -> None:
    """Check that what a format needs is installed.

    Raises:
        ExportError: it is not; the message says what to install.
    """
    about = lookup(kind)
    needed = [name for name in (about.runtime, about.converter if writing else "") if name]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"export {kind}: needs {' and '.join(missing)}, not installed here. Install: "
            f"pip install 'tlkit[{about.extra}]'"
        )


def find_export(path: Path) -> tuple[str, Path] | None:
    """Return a format that `path`, a folder or file, is an export in, and the file it is known by.

    None: it is no export. The variants of LiteRT are told apart only by what the file says.
    """
    if path.is_dir():
        found = {about.file: kind for kind, about in reversed(FORMATS.items())}
        return next(((k, path / f) for f, k in found.items() if (path / f).is_file()), None)
    kind = SUFFIXES.get(path.suffix.lower())
    return (kind, path) if kind and path.is_file() else None
