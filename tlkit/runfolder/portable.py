"""Writes a `.keras` file that every Keras from 3.4 on reads, whatever version wrote it.

Keras writes all arguments of a layer into the file, and refuses arguments that it does not know:
what one version adds, even at its default, is read by no version before. What stands at such a
default is left out here, and the file means the same to every reader.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras

LEAST_KERAS = "3.4"
"""The oldest Keras that reads the models which tlkit builds. Before, Keras took the one input of a
model for a list of inputs (3.3.3, `keras/src/models/functional.py`), which Keras since 3.8 reads
with a warning at every call."""

_AXES = {"input_axes": None, "output_axes": None}  # 3.15
_TRANSPOSED = {"output_padding": None}  # 3.12
_ATTENTION = {"sliding_window": None, "use_gate": False, "flash_attention": None}  # 3.8 to 3.15
_QUANTIZED = {"quantization_config": None, "lora_alpha": None}  # 3.10, 3.13

ADDED: dict[str, dict[str, Any]] = {
    "GlorotNormal": _AXES,
    "GlorotUniform": _AXES,
    "HeNormal": _AXES,
    "HeUniform": _AXES,
    "LecunNormal": _AXES,
    "LecunUniform": _AXES,
    "VarianceScaling": _AXES,
    "BatchNormalization": {
        "renorm": False,
        "renorm_clipping": None,
        "renorm_momentum": 0.99,
    },  # 3.14
    "Dense": _QUANTIZED,
    "EinsumDense": {**_QUANTIZED, "gptq_unpacked_column_size": None},
    "Embedding": _QUANTIZED,
    "InputLayer": {"ragged": False},  # 3.10
    "Conv1DTranspose": _TRANSPOSED,
    "Conv2DTranspose": _TRANSPOSED,
    "Conv3DTranspose": _TRANSPOSED,
    "MultiHeadAttention": _ATTENTION,
    "GroupedQueryAttention": _ATTENTION,
    "RandomContrast": {"value_range": [0, 255]},  # 3.8
    "Resizing": {"antialias": False},  # 3.10
    "IntegerLookup": {"oov_method": "floormod", "salt": None},  # 3.14
    "StringLookup": {"salt": None},
}
"""What came into Keras's own layers and initialisers after 3.4, with its default. Source: the
signatures of their constructors in Keras 3.4.1 to 3.15.1, side by side; no default of a layer has
changed in between. `benchmarks/keras_versions.py` reads saved models in the real old versions."""


def save_portable(model: keras.Model, path: Path) -> None:
    """Save `model` as the `.keras` file `path`, for every Keras from `LEAST_KERAS` on.

    Weights and all else are Keras's own; in the configuration, arguments that Keras has added
    since are left out where they stand at their defaults.
    """
    whole = path.with_name(f"{path.stem}.whole.keras")
    try:
        model.save(whole)
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                entry = zipfile.ZipInfo(name)  # without the time
                with source.open(name) as old, target.open(entry, "w", force_zip64=True) as new:
                    if name == "config.json":
                        new.write(json.dumps(portable(json.load(old))).encode())
                    else:
                        shutil.copyfileobj(old, new, 1 << 20)
    finally:
        whole.unlink(missing_ok=True)


def portable(config: Any) -> Any:
    """Return a serialised Keras object without what older versions do not know."""
    if isinstance(config, list):
        return [portable(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: portable(value) for key, value in config.items()}
    own = config.get("config")
    if isinstance(own, dict):
        config["config"] = {key: x for key, x in own.items() if not _is_new(config, key, x)}
    return config


def _is_new(about: dict[str, Any], key: str, value: Any) -> bool:
    """Tell whether an older Keras knows no `key` here, and can do without."""
    module, name = str(about.get("module")), str(about.get("class_name"))
    if module in ("keras.layers", "keras.initializers"):
        added = ADDED.get(name, {})
        return key in added and added[key] == value
    # Operations with arguments of their own take a name since 3.12; the graph's own entry has it.
    return key == "name" and module.startswith("keras.src.ops.") and len(about["config"]) > 1
