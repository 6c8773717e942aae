"""`env.json`: where a run computed, with what, and what it started from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkit.compute.setup import jax_names, policy_of
from tlkit.runfolder.portable import LEAST_KERAS
from tlkit.spec.run import RunSpec

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


def describe_environment(
    spec: RunSpec, digests: Iterable[tuple[str, str]], model: keras.Model
) -> dict[str, Any]:
    """Return `env.json`: versions, backend, hardware, precision, and what the run started from.

    `keras_least` is the oldest Keras that reads the run's models.

    Args:
        digests: id and content hash of each image.
        model: before its training.
    """
    if keras.backend.backend() == "jax":
        devices = jax_names(spec.device)
    else:
        visible = tf.config.get_visible_devices()
        devices = [d.name for d in visible if d.device_type != "CPU"] or ["cpu"]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "devices": devices,
        "hardware": _hardware(),
        "precision": policy_of(spec),
        "deterministic": spec.deterministic,
        "seed": spec.seed,
        "git": _git(),
        "data": _hash(f"{id_}\0{digest}\n".encode() for id_, digest in sorted(digests)),
        "weights": hash_weights(model),
        "versions": versions_of(PACKAGES),
        # Of layers that a user brings nobody knows since when Keras has them.
        "keras_least": keras.__version__ if spec.backbone.given else LEAST_KERAS,
    }


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each of these packages that is installed, by its name."""
    versions = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def hash_weights(model: keras.Model) -> str:
    """Return a hash of all weights of a model."""
    return _hash(np.ascontiguousarray(array) for array in model.get_weights())


def _hardware() -> dict[str, Any]:
    """Return processor, cores, memory in bytes, GPUs; None for what the system does not tell."""
    model, memory = platform.processor() or None, None
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("model name"))
        model = line.partition(":")[2].strip()
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    return {"processor": model, "cores": os.cpu_count(), "memory": memory, "gpus": gpus}


def _git() -> dict[str, Any] | None:
    """Return commit and state of the repository that the current directory is in, if any."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], capture_output=True, check=True, timeout=10, encoding="utf-8"
        )
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


def _hash(parts: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
