"""Arguments of the drop-in functions: their signature, and what is wrong with given ones."""

from __future__ import annotations

import inspect
import os
from numbers import Integral
from typing import Any

import keras

from tlkit.backbones.build import constructor
from tlkit.backbones.catalog import Backbone
from tlkit.errors import BackboneError, SignatureError, WeightsError, did_you_mean

IMAGENET_CLASSES = 1000
POOLINGS = (None, "avg", "max")
BATCHNORM = (None, "frozen", "affine", "train")


def signature_of(row: Backbone) -> inspect.Signature:
    """Return Keras's own signature with tlkit's arguments behind it, by keyword only."""
    own = inspect.signature(constructor(row))
    extra = {"freeze": None, "batchnorm": None, "head": None}
    if "include_preprocessing" not in own.parameters:
        extra["include_preprocessing"] = row.preprocessing == "inside"
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=value) for name, value in extra.items()]
    return own.replace(parameters=[*own.parameters.values(), *added], return_annotation=keras.Model)


def bind(row: Backbone, signature: inspect.Signature, args: tuple, given: dict) -> dict[str, Any]:
    """Return every argument by name, defaults filled in.

    Raises:
        SignatureError: an argument is unknown, given twice, or one too many.
    """
    unknown = [name for name in given if name not in signature.parameters]
    if unknown:
        names = list(signature.parameters)
        raise SignatureError(
            f"{row.name}: unknown argument.{did_you_mean(unknown[0], names)} "
            f"Allowed: {', '.join(names)}. Received: {unknown[0]}"
        )
    try:
        bound = signature.bind(*args, **given)
    except TypeError as error:
        raise SignatureError(f"{row.name}: {error}. Signature: {row.name}{signature}") from error
    bound.apply_defaults()
    return dict(bound.arguments)


def check(row: Backbone, a: dict[str, Any]) -> None:
    """Check the arguments `a` before anything is built.

    Raises:
        BackboneError: a value that the application cannot be built with.
        WeightsError: `weights` is neither None, `imagenet` nor a file.
    """
    _check_weights(row, a["weights"])
    _one_of(row, "pooling", a["pooling"], POOLINGS)
    _one_of(row, "batchnorm", a["batchnorm"], BATCHNORM)
    classes = a["classes"]
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise BackboneError(
            f"{row.name} classes: is a number of classes. Allowed: 1 or more. Received: {classes!r}"
        )
    if a["head"] is not None and not a["include_top"]:
        raise BackboneError(f"{row.name} head: is a top of its own. Allowed: include_top=True")
    if row.module == "efficientnet" and not a["include_preprocessing"]:
        raise BackboneError(
            f"{row.name} include_preprocessing: this family always has its own. Allowed: True"
        )
    _check_family(row, a)
    _check_shape(row, a)
    tensor = a["input_tensor"]
    if keras.backend.is_keras_tensor(tensor) and len(tensor.shape) == 4:
        channels = tensor.shape[1 if channels_first() else -1]
        _check_channels(row, a, "input_tensor", channels, tensor.shape)


def _one_of(row: Backbone, name: str, value: Any, allowed: tuple) -> None:
    if value not in allowed:
        near = did_you_mean(str(value), [str(x) for x in allowed])
        raise BackboneError(
            f"{row.name} {name}: unknown.{near} Allowed: {', '.join(map(repr, allowed))}. "
            f"Received: {value!r}"
        )


def _check_weights(row: Backbone, weights: Any) -> None:
    if weights is None or weights == "imagenet":
        return
    if not isinstance(weights, str | os.PathLike) or not os.path.isfile(weights):
        raise WeightsError(
            f"{row.name} weights: no such file.{did_you_mean(str(weights), ['imagenet'])} "
            f"Allowed: 'imagenet', None (random), or the path of a weights file. "
            f"Received: {weights!r}"
        )


def _check_family(row: Backbone, a: dict[str, Any]) -> None:
    if a["weights"] != "imagenet":
        return
    for name, allowed in row.arguments.items():
        _has_weights(row, name, a[name], allowed)
    if a.get("minimalistic"):
        _has_weights(row, "alpha (minimalistic)", a["alpha"], (1.0,))
    if "depth_multiplier" in a:
        _has_weights(row, "depth_multiplier", a["depth_multiplier"], (1,))
    own_top = a["include_top"] and a["classes"] == IMAGENET_CLASSES and a["head"] is None
    activation = a["classifier_activation"]
    if own_top and activation not in (None, "softmax", keras.activations.softmax):
        raise BackboneError(
            f"{row.name} classifier_activation: the ImageNet classifier was trained with another. "
            f"Allowed: 'softmax', None (logits). Received: {activation!r}"
        )


def _has_weights(row: Backbone, name: str, value: Any, allowed: tuple) -> None:
    if value not in allowed:
        raise BackboneError(
            f"{row.name} {name}: there are no ImageNet weights for it. "
            f"Allowed: {', '.join(map(str, allowed))}; any with weights=None. Received: {value!r}"
        )


def channels_first() -> bool:
    """Tell whether Keras is set to images (channels, height, width)."""
    return keras.config.image_data_format() == "channels_first"


def static_size(row: Backbone, a: dict[str, Any]) -> bool:
    """Tell whether Keras wants the image's size fixed."""
    # MobileNetV3 ends in convolutions, and takes any size with a top too.
    top = a["include_top"] and row.module != "mobilenet_v3"
    return top or (row.module == "nasnet" and a["weights"] == "imagenet")


def default_shape(row: Backbone, a: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Return the shape of an image (without the batch) as Keras chooses it where none is given."""
    side = row.default_size if static_size(row, a) else None
    return (3, side, side) if channels_first() else (side, side, 3)


def _check_shape(row: Backbone, a: dict[str, Any]) -> None:
    shape = a["input_shape"]
    if shape is None:
        return
    said, side = f"{row.name} input_shape", row.default_size
    example = (3, side, side) if channels_first() else (side, side, 3)
    order = "(channels, height, width)" if channels_first() else "(height, width, channels)"
    sides_ok = isinstance(shape, tuple | list) and len(shape) == 3
    if not sides_ok or any(x is not None and not _is_whole(x) for x in shape):
        raise BackboneError(
            f"{said}: is {order}, in pixels. Allowed: such as {example}. Received: {shape!r}"
        )
    sides, channels = (shape[1:], shape[0]) if channels_first() else (shape[:2], shape[2])
    if any(side is not None and side < row.min_size for side in sides):
        raise BackboneError(
            f"{said}: too small for {row.name}. Allowed: {row.min_size} pixels a side or more. "
            f"Received: {shape!r}"
        )
    if channels is None or channels < 1:
        raise BackboneError(
            f"{said}: the number of channels must be fixed. Allowed: {order}, such as {example}. "
            f"Received: {shape!r}"
        )
    _check_channels(row, a, "input_shape", channels, shape)
    if static_size(row, a) and None in sides:
        why = "with a top" if a["include_top"] else "of NASNet with ImageNet weights"
        raise BackboneError(
            f"{said}: the size {why} must be fixed. Allowed: such as {example}. Received: {shape!r}"
        )


def _check_channels(
    row: Backbone, a: dict[str, Any], name: str, channels: int | None, shape: Any
) -> None:
    # What the application does itself it adapts to any number of channels.
    added = a["include_preprocessing"] and row.preprocessing != "inside"
    if channels != 3 and (a["weights"] == "imagenet" or added):
        why = "ImageNet weights" if a["weights"] == "imagenet" else "include_preprocessing=True"
        raise BackboneError(
            f"{row.name} {name}: RGB is wanted with {why}. Allowed: 3 channels. Received: {shape!r}"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
