"""Builds a catalog row: preprocessing, application, pretrained weights, in one flat graph."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tlkit.backbones.catalog import Backbone, LayerInfo, lookup
from tlkit.backbones.efficientnet_lite import MEAN_RGB, STDDEV_RGB
from tlkit.errors import BackboneError, WeightsError

CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Channel means B, G, R of ImageNet (`keras/src/applications/imagenet_utils.py`)."""

PREPROCESS = "preprocess"
"""Name prefix of the layers that tlkit puts in front of an application."""


@dataclass(frozen=True)
class Built:
    """A backbone without top: RGB 0-255 in, a feature map out.

    Attributes:
        inputs: KerasTensor (batch, size, size, 3).
        features: KerasTensor (batch, height, width, channels).
        layers: the application's own layers, as `model.layers` of Keras's own constructor
            lists them, so that indices mean the same.
    """

    inputs: keras.KerasTensor
    features: keras.KerasTensor
    layers: tuple[LayerInfo, ...]


def build_backbone(
    name: str, size: int, weights: str = "imagenet", alpha: float | None = None
) -> Built:
    """Build the application `name` for pictures of `size` pixels a side.

    Args:
        weights: `imagenet`, `none`, or the path of a weights file.
        alpha: width multiplier, for the rows that have one.

    Raises:
        BackboneError: no such row, `size` is too small, or `alpha` does not belong to the row.
        WeightsError: the weights are neither on disk nor reachable, or do not fit.
    """
    row = lookup(name)
    _check(row, size, alpha)
    inputs = keras.Input((size, size, 3), name="image")
    model = _construct(row, _preprocess(inputs, row.preprocessing), size, weights, alpha)
    own = [layer for layer in model.layers if not layer.name.startswith(PREPROCESS)]
    return Built(inputs, model.output, describe_layers(row, own))


def describe_layers(row: Backbone, layers: list[keras.layers.Layer]) -> tuple[LayerInfo, ...]:
    """Assign each layer to its block; what no pattern names belongs to the block before it."""
    block = row.blocks[0][0]
    infos = []
    for layer in layers:
        block = row.block_of(layer.name) or block
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        infos.append(LayerInfo(layer.name, block, int(layer.count_params()), is_norm))
    return tuple(infos)


def _check(row: Backbone, size: int, alpha: float | None) -> None:
    if size < row.min_size:
        raise BackboneError(
            f"image size: too small for {row.name}. Allowed: {row.min_size} pixels or more. "
            f"Received: {size}"
        )
    if alpha is not None and "alpha" not in row.arguments:
        raise BackboneError(f"{row.name}: has no width multiplier alpha. Received: {alpha}")


def _preprocess(inputs: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Turn RGB 0-255 into what the weights were trained on; built-in layers only."""
    scales = {"tf": (1 / 127.5, -1.0), "lite": (1 / STDDEV_RGB, -MEAN_RGB / STDDEV_RGB)}
    if mode in scales:
        return keras.layers.Rescaling(*scales[mode], name=f"{PREPROCESS}_scale")(inputs)
    if mode == "caffe":
        # Constant mean and variance: an adaptable Normalization would add weights, and Keras's
        # weight files, which are read by position, would no longer fit.
        mean = keras.layers.Normalization(
            mean=np.array(CAFFE_MEAN), variance=np.ones(3), name=f"{PREPROCESS}_mean"
        )
        return mean(inputs[..., ::-1])
    return inputs


def _construct(
    row: Backbone, x: keras.KerasTensor, size: int, weights: str, alpha: float | None
) -> keras.Model:
    module, function = row.constructor.split(":")
    constructor = getattr(importlib.import_module(module), function)
    chosen = {"imagenet": "imagenet", "none": None}.get(weights, weights)
    _check_file(row, weights)
    family = {} if alpha is None else {"alpha": alpha}
    try:
        with warnings.catch_warnings():
            # "input_shape is undefined or non-square": the weights serve every size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            return constructor(
                include_top=False,
                weights=chosen,
                input_tensor=x,
                input_shape=(size, size, 3),
                **family,
            )
    except Exception as error:
        if weights == "none" or isinstance(error, WeightsError):
            raise
        raise _weights_error(row, weights, error) from error


def _check_file(row: Backbone, weights: str) -> None:
    if weights in ("imagenet", "none"):
        return
    if not Path(weights).is_file():
        raise WeightsError(
            f"{row.name} weights: no such file. Allowed: imagenet, none, or the path of a weights "
            f"file. Received: {weights!r}"
        )
    if row.preprocessing == "inside":
        # Only for the word "imagenet" does Keras add the rescaling that those weights need
        # (keras/src/applications/efficientnet.py): by path they would load and be wrong.
        raise WeightsError(
            f"{row.name} weights: cannot be given by path. Allowed: imagenet (put the file into "
            f"{models_folder()} under Keras's own name), none. Received: {weights!r}"
        )


def models_folder() -> Path:
    """Return the folder in which Keras looks for weights before it downloads them."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _weights_error(row: Backbone, weights: str, error: Exception) -> WeightsError:
    url = re.search(r"https?://\S+\.(?:h5|keras)", str(error))
    if url:
        file = url[0].rsplit("/", 1)[-1]
        return WeightsError(
            f"{row.name} weights: {file} is not on disk and could not be downloaded. "
            f"Get {url[0]} and put it into {models_folder()}, or choose --set backbone.weights=none"
        )
    where = weights if weights != "imagenet" else f"in {models_folder()}"
    reason = " ".join(str(error).split())[:300]
    return WeightsError(f"{row.name} weights {where}: do not fit or cannot be read: {reason}")
