"""Where a run computes: device, precision, seed; set before the first tensor is made."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from tlkit.engines import check_engine
from tlkit.errors import SpecError
from tlkit.spec import RunSpec

PACKAGES = (
    "tlkit",
    "tensorflow",
    "keras",
    "jax",
    "openvino",
    "onnxruntime",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
)


def set_environment(spec: RunSpec) -> None:
    """Set device, seed and determinism as `spec` says; before TensorFlow makes its first tensor.

    Raises:
        SpecError: a GPU is asked for that is not there, or an engine that is not installed.
    """
    check_engine(spec.engine)
    _set_device(spec.device)
    keras.utils.set_random_seed(spec.seed)
    if spec.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def precision(spec: RunSpec) -> Iterator[None]:
    """Layers made inside compute as `spec.precision` says; Keras's own setting is put back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_policy(spec))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _policy(spec: RunSpec) -> str:
    return "float32" if spec.precision in ("auto", "float32") else f"mixed_{spec.precision}"


def _set_device(device: str) -> None:
    if device == "auto":
        return
    if keras.backend.backend() != "tensorflow":
        raise SpecError(
            f"device: on the {keras.backend.backend()} backend set its own variable, such as "
            f"JAX_PLATFORMS=cpu. Allowed here: auto. Received: {device}"
        )
    gpus = tf.config.list_physical_devices("GPU")
    number = int(device.partition(":")[2] or 0)
    if device != "cpu" and number >= len(gpus):
        raise SpecError(
            f"device: this machine has {len(gpus)} GPUs that TensorFlow can see. "
            f"Allowed: auto, cpu{''.join(f', gpu:{i}' for i in range(len(gpus)))}. "
            f"Received: {device}"
        )
    chosen = [] if device == "cpu" else gpus[number : number + 1]
    try:
        tf.config.set_visible_devices(chosen, "GPU")
    except RuntimeError as error:
        raise SpecError(
            f"device: {device} cannot be set any more, TensorFlow has already started on another; "
            "start a new process"
        ) from error


def describe_environment(spec: RunSpec) -> dict[str, Any]:
    """Return `env.json`: versions, backend, hardware, precision."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "devices": [d.name for d in tf.config.get_visible_devices() if d.device_type != "CPU"]
        or ["cpu"],
        "precision": _policy(spec),
        "deterministic": spec.deterministic,
        "versions": versions,
    }
