"""Engines: what computes the outputs of a network that is not being trained.

Keras's own `predict_on_batch` runs everywhere and sets the numbers. On TensorFlow a graph whose
weights are constants computes the same quicker; OpenVINO and ONNX Runtime, where installed, are
quicker still on a CPU. Each is admitted only if it agrees with Keras on real images, and the
quickest of a short timed trial is taken.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import keras
import numpy as np

from tlkit.compute.compilers import (
    Function,
    as_list,
    by_tensorflow,
    compile_onnxruntime,
    compile_openvino,
    frozen_graph,
)
from tlkit.errors import SpecError
from tlkit.progress import Progress

KERAS, TENSORFLOW, OPENVINO, ONNXRUNTIME = ENGINES = (
    "keras",
    "tensorflow",
    "openvino",
    "onnxruntime",
)

MODULES = {OPENVINO: ("openvino",), ONNXRUNTIME: ("onnxruntime", "tf2onnx")}
"""What an engine needs beside TensorFlow; the extra of the same name installs it."""

CONVERSION = {OPENVINO: 0.5, ONNXRUNTIME: 5.0}
"""Seconds that it takes to convert a network the size of MobileNetV2 and to make its plan at the
first call (measured on two cores: 0.2 s and 3.4 s)."""

GAIN = 0.4
"""Share of TensorFlow's time that a converted network saves, assumed before the trial; measured
with MobileNetV2 at 224 px on two cores: 149 images/s to 297 with OpenVINO and 246 with ONNX
Runtime; EfficientNetB0 102 to 167, ResNet50 25 to 31 with OpenVINO."""

TOLERANCE = {"float32": 1e-3, "half": 2e-2}
"""Largest difference from Keras, as a share of the largest magnitude, at which an engine is
admitted. Sums of float32 in another order differ by up to 1e-5 here; a wrong layer by far more
than 1e-3. Half precision keeps 8 (bfloat16) or 11 bits of a number."""

TRIAL = 16
"""Images on which engines are timed."""

CHECKED = 8
"""Images on which engines are compared with Keras: it runs them layer by layer, which is slow."""

LARGEST = 2**28
"""Parameters up to which weights are made constants: a graph must stay below 2 GiB."""

WORTHWHILE = 256
"""Images from which `inference` makes a graph: for fewer Keras's own function is as quick."""


@dataclass(frozen=True)
class Engine:
    """What computes a network.

    Attributes:
        name: one of `ENGINES`.
        images_per_second: in the trial; None where there was none.
        largest_difference: from Keras's outputs, absolute; None where there was no trial.
    """

    name: str
    images_per_second: float | None = None
    largest_difference: float | None = None

    def describe(self) -> str:
        """Return name, speed and error in a line."""
        if self.images_per_second is None:
            return self.name
        return (
            f"{self.name}, {self.images_per_second:.0f} images/s, "
            f"largest difference {self.largest_difference:.0e}"
        )


def check_engine(name: str) -> None:
    """Check that the engine asked for can be used.

    Raises:
        SpecError: it is not installed, or needs the TensorFlow backend.
    """
    if name in ("auto", KERAS):
        return
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise SpecError(
            f"engine: {name} needs Keras on TensorFlow. Allowed on {backend}: auto, keras"
        )
    if not is_installed(name):
        raise SpecError(
            f"engine: {name} is not installed; install it with: pip install tlkit[{name}]. "
            f"Allowed here: auto, {', '.join(e for e in ENGINES if is_installed(e))}"
        )


def is_installed(name: str) -> bool:
    """Tell whether what an engine needs is there, without importing it."""
    return all(importlib.util.find_spec(module) for module in MODULES.get(name, ()))


def release(name: str) -> str:
    """Return name and version of an engine: features of another version are another's."""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:  # the package may be called otherwise: onnxruntime-gpu
        return f"{name} {importlib.import_module(name).__version__}"


def candidates(wanted: str, deterministic: bool) -> tuple[str, ...]:
    """Return the engines that may be chosen, by rule, the safest first.

    Converted networks are for float32 on a CPU. A deterministic run takes the first: speeds, and
    so the winner of a trial, differ from run to run.

    Raises:
        SpecError: see `check_engine`.
    """
    check_engine(wanted)
    if wanted != "auto":
        return (wanted,)
    if keras.backend.backend() != "tensorflow":
        return (KERAS,)
    if deterministic or _has_gpu():
        return (TENSORFLOW,)
    # OpenVINO and ONNX Runtime are about as quick; one conversion is enough.
    converted = [name for name in (OPENVINO, ONNXRUNTIME) if is_installed(name)]
    return (TENSORFLOW, *converted[:1])


def choose(
    model: keras.Model,
    names: Sequence[str],
    images: int,
    sample: np.ndarray,
    progress: Progress,
) -> tuple[Engine, Function]:
    """Return the quickest of the engines that agree with Keras, and `model` on it.

    Args:
        names: see `candidates`; if it is one alone, it is taken if it agrees.
        images: how many there are to compute: a conversion must be worth its time.
        sample: real images float32 (n, ...), for check and trial.

    Raises:
        SpecError: the one engine asked for does not agree with Keras.
    """
    best, chosen = Engine(KERAS), model.predict_on_batch
    if tuple(names) == (KERAS,):
        return best, chosen
    if not _can_convert(model):
        progress.say("prefix", "several inputs, or too many parameters: left to keras")
        return best, chosen
    expected = reference(model, sample)
    graph = frozen_graph(model)
    for name in names:
        if len(names) > 1 and not _is_worth_it(name, best, images, model):
            continue
        function = _COMPILERS[name](graph)
        difference, allowed = disagreement(model, as_list(function(sample[:CHECKED])), expected)
        if not difference <= allowed:  # NaN is refused as well
            problem = (
                f"{name} differs from Keras by {difference:.2g}, more than the {allowed:.2g} "
                "allowed"
            )
            if len(names) == 1 and name in CONVERSION:  # asked for; TensorFlow's may be the rule's
                raise SpecError(f"engine: {problem}. Allowed: another engine, such as keras")
            progress.say("prefix", f"{problem}: left out")
            continue
        # The first has no rival yet; how quick it is tells whether to convert for another.
        alone = best.name == KERAS
        rates = _race([function], sample[:CHECKED]) if alone else _race([function, chosen], sample)
        if rates[0] == max(rates):
            best, chosen = Engine(name, rates[0], difference), function
    return best, chosen


def reference(model: keras.Model, sample: np.ndarray) -> list[np.ndarray]:
    """Return Keras's own outputs, one by one, for the first `CHECKED` of some images."""
    return as_list(model(sample[:CHECKED], training=False))


def disagreement(
    model: keras.Model, found: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> tuple[float, float]:
    """Return how much outputs of `model` differ from those `expected`, and how much they may.

    Of several outputs it is the one that comes nearest to what it may, or goes beyond; see
    `TOLERANCE`. NaN differs by NaN.
    """
    share = TOLERANCE["float32" if _is_float32(model) else "half"]
    pairs = []
    for got, own in zip(found, expected, strict=True):
        own = own.astype(np.float32)
        difference = float(np.abs(got.astype(np.float32) - own).max())
        pairs.append((difference, share * max(1e-6, float(np.abs(own).max()))))
    return max(pairs, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0] / pair[1])


def _race(functions: Sequence[Function], sample: np.ndarray) -> list[float]:
    """Return the images a second of each; in turns, so that a busy machine slows all alike."""
    seconds = [[] for _ in functions]
    for round_ in range(3):
        for function, times in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function(sample)
            if round_:  # the first call of a size makes plans for it
                times.append(time.perf_counter() - start)
    return [len(sample) / min(times) for times in seconds]


def _is_worth_it(name: str, best: Engine, images: int, model: keras.Model) -> bool:
    """Tell whether trying `name` may save more time than its conversion takes."""
    if name not in CONVERSION or best.name == KERAS:
        return True
    saved = images / best.images_per_second * GAIN
    return _is_float32(model) and saved > CONVERSION[name]


def build(name: str, model: keras.Model) -> Function:
    """Return `model` as a function of a batch on the engine `name`, which was admitted before."""
    if name == KERAS or not _can_convert(model):
        return model.predict_on_batch
    return _COMPILERS[name](frozen_graph(model))


def inference(model: keras.Model, images: int) -> Function:
    """Return the quickest function that needs no check, for about `images` images."""
    quick = keras.backend.backend() == "tensorflow" and images >= WORTHWHILE
    return build(TENSORFLOW if quick else KERAS, model)


def _can_convert(model: keras.Model) -> bool:
    return len(model.inputs) == 1 and model.count_params() < LARGEST


def _is_float32(model: keras.Model) -> bool:
    return all(layer.compute_dtype in ("float32", None) for layer in model.layers)


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.get_visible_devices("GPU"))


_COMPILERS: dict[str, Callable[[Any], Function]] = {
    TENSORFLOW: by_tensorflow,
    OPENVINO: compile_openvino,
    ONNXRUNTIME: compile_onnxruntime,
}
