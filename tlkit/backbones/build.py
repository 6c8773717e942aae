"""Builds a catalog row: preprocessing, application, pretrained weights, in one flat graph."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.blocks import PREPROCESS, describe_layers
from tlkit.backbones.catalog import Backbone, LayerInfo, WeightsFile, lookup
from tlkit.backbones.colours import Colours
from tlkit.backbones.lite0.network import MEAN_RGB, STDDEV_RGB
from tlkit.backbones.pyramid import find_levels
from tlkit.backbones.sides import Size, sides, told
from tlkit.backbones.weights import (
    file_for,
    from_mirror,
    from_path,
    missing,
    models_folder,
    official,
)
from tlkit.errors import BackboneError, WeightsError

CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Channel means B, G, R of ImageNet (`keras/src/applications/imagenet_utils.py`)."""

TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation R, G, B of ImageNet scaled to 0-1 (as above)."""


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

    @functools.cached_property
    def pyramid(self) -> dict[int, keras.KerasTensor]:
        """Feature maps by stride (4, 8, 16, 32), as far as there are such: see `find_levels`."""
        return find_levels(self.inputs, self.features, self.layers)


def build_backbone(
    name: str,
    size: Size,
    weights: str = "imagenet",
    alpha: float | None = None,
    colours: Colours | None = None,
    whiten: bool = False,
) -> Built:
    """Build the application `name` for images of `size`.

    Args:
        weights: `imagenet`, `none`, or the path of a weights file.
        alpha: width multiplier, for the rows that have one.
        colours: normalise by these statistics of the data, in the place of what the row's
            weights were trained on.
        whiten: decorrelate the colours as well (PCA whitening); needs `colours`.

    Raises:
        BackboneError: no such row, `size` is too small, or `alpha` does not belong to the row.
        WeightsError: the weights are neither on disk nor reachable, or do not fit.
    """
    row = lookup(name)
    _check(row, size, alpha)
    height, width = sides(size)
    inputs = keras.Input((height, width, 3), name="image")
    _check_file(row, weights)
    family = row.fixed | ({} if alpha is None else {"alpha": alpha})
    model = construct(
        row,
        None if weights == "none" else weights,
        include_top=False,
        input_tensor=(
            preprocess(inputs, row.preprocessing)
            if colours is None
            else normalise(inputs, colours, whiten)
        ),
        input_shape=(height, width, 3),
        **family,
    )
    return Built(inputs, model.output, describe_layers(row, model))


def _check(row: Backbone, size: Size, alpha: float | None) -> None:
    if min(sides(size)) < row.min_size:
        raise BackboneError(
            f"image size: too small for {row.name}. Allowed: {row.min_size} pixels or more. "
            f"Received: {told(size)}"
        )
    if alpha is not None and "alpha" not in row.arguments:
        raise BackboneError(f"{row.name}: has no width multiplier alpha. Received: {alpha}")


def preprocess(inputs: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Turn RGB 0-255 into what the weights were trained on; built-in layers only."""
    first = keras.config.image_data_format() == "channels_first"
    axis = 1 if first else -1
    scales = {"tf": (1 / 127.5, -1.0), "lite": (1 / STDDEV_RGB, -MEAN_RGB / STDDEV_RGB)}
    if mode in scales:
        return keras.layers.Rescaling(*scales[mode], name=f"{PREPROCESS}_scale")(inputs)
    if mode == "caffe":
        # Constant mean and variance: an adaptable Normalization would add weights, and Keras's
        # weight files, which are read by position, would no longer fit.
        mean = keras.layers.Normalization(
            axis, np.array(CAFFE_MEAN), np.ones(3), name=f"{PREPROCESS}_mean"
        )
        return mean(inputs[:, ::-1] if first else inputs[..., ::-1])
    if mode == "torch":
        scaled = keras.layers.Normalization(
            axis,
            mean=255 * np.array(TORCH_MEAN),
            variance=np.square(255 * np.array(TORCH_STD)),
            name=f"{PREPROCESS}_normalise",
        )
        return scaled(inputs)
    return inputs


def normalise(inputs: keras.KerasTensor, colours: Colours, whiten: bool) -> keras.KerasTensor:
    """Bring RGB 0-255 to mean 0 and deviation 1, along R, G and B or along the principal axes."""
    mean, covariance = colours.mean, colours.covariance
    # Images of one colour have no spread; a floor of one level keeps the division sane.
    if not whiten:
        variance = np.maximum(np.diag(covariance), 1.0)
        return keras.layers.Normalization(
            mean=mean, variance=variance, name=f"{PREPROCESS}_normalise"
        )(inputs)
    variances, axes = np.linalg.eigh(covariance)
    centred = keras.layers.Normalization(mean=mean, variance=np.ones(3), name=f"{PREPROCESS}_mean")(
        inputs
    )
    # A constant in an operation, not a layer with weights: Keras's weight files are read by
    # position.
    whitening = axes / np.sqrt(np.maximum(variances, 1.0))
    return keras.ops.matmul(centred, whitening.astype(np.float32))


def constructor(row: Backbone) -> Callable[..., keras.Model]:
    """Return the function that builds `row`, with the signature of `keras.applications`."""
    module, function = row.constructor.split(":")
    return getattr(importlib.import_module(module), function)


def construct(row: Backbone, weights: str | None, **arguments: Any) -> keras.Model:
    """Call the constructor of `row`.

    Args:
        weights: `imagenet`, None (random), or the path of a weights file.
        arguments: the constructor's other arguments.

    Raises:
        WeightsError: the weights are neither on disk nor reachable, or do not fit.
    """
    weights = _at_hand(row, weights, arguments)
    try:
        with warnings.catch_warnings():
            # "input_shape is undefined or non-square": the weights serve every size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            # It comes before the error that names the layer which a file of weights lacks.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            return constructor(row)(weights=weights, **arguments)
    except Exception as error:
        if weights is None or isinstance(error, WeightsError):
            raise
        raise _weights_error(row, weights, error) from error


def _at_hand(row: Backbone, weights: str | None, arguments: dict[str, Any]) -> str | None:
    """Put the file into Keras's folder where that is up to tlkit; return what Keras is told."""
    if weights == "imagenet":
        file = file_for(row, arguments)
        if file is not None:
            from_mirror(file)
    elif weights is not None and row.module == "efficientnet":
        file = official(row, Path(weights), arguments.get("include_top", True))
        if file is not None:
            from_path(Path(weights), file)
            return "imagenet"
    return weights


def _check_file(row: Backbone, weights: str) -> None:
    if weights in ("imagenet", "none"):
        return
    if not Path(weights).is_file():
        raise WeightsError(
            f"{row.name} weights: no such file. Allowed: imagenet, none, or the path of a weights "
            f"file. Received: {weights!r}"
        )
    if row.module == "efficientnet" and official(row, Path(weights), top=False) is None:
        # Only for the word "imagenet" does Keras add the rescaling that those weights need
        # (keras/src/applications/efficientnet.py): which of both others want, nobody can tell.
        raise WeightsError(
            f"{row.name} weights: a file of one's own cannot be used, since it does not say which "
            f"preprocessing it was trained with. Allowed: imagenet, none, or the path of Keras's "
            f"own file. Received: {weights!r}"
        )


def check_finite(model: keras.Model, where: str) -> None:
    """Check that all weights are numbers; those of a damaged file, or that diverged, are not.

    Raises:
        WeightsError: names the first that is not, and `where` they come from.
    """
    for variable in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise WeightsError(
                f"{where}: {variable.path} holds values that are no finite numbers. Allowed: "
                "weights of a network that answers with numbers"
            )


def _weights_error(row: Backbone, weights: str, error: Exception) -> WeightsError:
    url = re.search(r"https?://\S+\.(?:h5|keras)", str(error))
    if url:
        file = next((file for file in row.weights if file.url == url[0]), None)
        file = file or WeightsFile(url[0].rsplit("/", 1)[-1], url[0], True)
        return WeightsError(f"{row.name} {missing(file)}")
    where = weights if weights != "imagenet" else f"in {models_folder()}"
    reason = " ".join(str(error).split())[:300]
    return WeightsError(f"{row.name} weights {where}: do not fit or cannot be read: {reason}")
