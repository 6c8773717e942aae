"""Makes the functions of `tlkit.applications` out of the catalog."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras

from tlkit.applications.arguments import (
    IMAGENET_CLASSES,
    bind,
    check,
    default_shape,
    signature_of,
)
from tlkit.backbones.build import construct, preprocess
from tlkit.backbones.catalog import Backbone, lookup
from tlkit.errors import BackboneError, TlkitError
from tlkit.planning.freeze_model import freeze
from tlkit.spec.parts import HeadSpec
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification
from tlkit.tasks.pooled import PREDICTIONS, attach

_ADDED = """

Besides Keras's own arguments:
    classes: any number together with weights="imagenet": the top is swapped for pooling, dropout
        and a new classifier `(batch, classes)`, and `input_shape` is free from the minimum size on.
    head: a `tlkit.spec.parts.HeadSpec` or its fields, `{{"hidden": [256], "dropout": 0.5}}`: the
        new top, instead of the application's own.
    freeze: a freeze rule, such as "until=BLOCK", "last=2" or "all" (see `tlkit.freeze`). None: as
        Keras, everything is trained.
    batchnorm: "frozen" (the default where `freeze` is given), "affine" or "train": what happens to
        BatchNorm in the layers that are not frozen.
    include_preprocessing: True: pixels RGB 0-255 in, whatever the family. Default: {default}, as
        Keras has it.

`name` names the model and nothing else; Keras would choose weights and preprocessing by it.
Images are `(batch, height, width, channels)`, at least {min_size} pixels a side, or as Keras's
`image_data_format` says. With ImageNet weights, and with include_preprocessing=True where Keras has
none, they are RGB; else of any number of channels.

Raises:
    BackboneError: an argument that the application cannot be built with; a `ValueError` too, as
        Keras raises, and for a call that does not fit the signature a `TypeError`.
    WeightsError: weights that are neither on disk nor reachable, or do not fit; a `ValueError` too.
    FreezeError: a freeze rule that cannot be read or matches nothing.
"""


def drop_in(name: str) -> Callable[..., keras.Model]:
    """Return `keras.applications.NAME` with tlkit's arguments added, see its documentation."""
    row = lookup(name)
    signature = signature_of(row)

    def application(*args: Any, **arguments: Any) -> keras.Model:
        return _make(row, bind(row, signature, args, arguments))

    default = signature.parameters["include_preprocessing"].default
    application.__name__ = application.__qualname__ = name
    application.__module__ = f"tlkit.applications.{row.module}"
    application.__signature__ = signature
    application.__doc__ = f"{name}, as a plain `keras.Model`." + _ADDED.format(
        default=default, min_size=row.min_size
    )
    return application


def pre_and_post(module: str) -> tuple[Callable, Callable]:
    """Return `preprocess_input` and `decode_predictions` of `keras.applications.MODULE`."""
    keras_module = importlib.import_module(f"keras.applications.{module}")
    return keras_module.preprocess_input, keras_module.decode_predictions


def _make(row: Backbone, a: dict[str, Any]) -> keras.Model:
    check(row, a)
    name, weights = a.get("name"), a["weights"]
    swapped = a["include_top"] and (
        a["head"] is not None or (weights == "imagenet" and a["classes"] != IMAGENET_CLASSES)
    )
    try:
        model = construct(row, weights, **_own_arguments(row, a, swapped))
        if swapped:
            model = _with_top(row, model, a)
        elif a["input_tensor"] is None:
            # Behind a preprocessing Keras makes the input a list of one, of which `fit` warns.
            model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    except TlkitError:
        raise
    except ValueError as error:
        raise BackboneError(f"{row.name}: {' '.join(str(error).split())}") from error
    if name is not None:
        model.name = name
    if a["freeze"] is not None or a["batchnorm"] is not None:
        freeze(model, a["freeze"] or "none", a["batchnorm"] or "frozen")
    return model


def _own_arguments(row: Backbone, a: dict[str, Any], swapped: bool) -> dict[str, Any]:
    """Return what is passed to Keras's constructor; never `name`, by which it chooses weights."""
    added = {"freeze", "batchnorm", "head", "name", "weights", "include_preprocessing"}
    arguments = {key: value for key, value in a.items() if key not in added}
    if a["input_shape"] is not None:
        arguments["input_shape"] = tuple(a["input_shape"])
    if swapped:
        arguments |= {"include_top": False, "pooling": None}
        if a["input_tensor"] is None and a["input_shape"] is None:
            arguments["input_shape"] = default_shape(row, a)
    if row.fixed:
        arguments["include_preprocessing"] = a["include_preprocessing"]
    elif a["include_preprocessing"] and row.preprocessing != "inside":
        image = a["input_tensor"]
        if image is None:
            arguments["input_shape"] = tuple(a["input_shape"] or default_shape(row, a))
            image = keras.Input(arguments["input_shape"], name="image")
        arguments["input_tensor"] = preprocess(image, row.preprocessing)
    return arguments


def _with_top(row: Backbone, model: keras.Model, a: dict[str, Any]) -> keras.Model:
    """Return `model` (without top) with a new one."""
    head = a["head"]
    if head is None:
        # MobileNet and MobileNetV3 have an argument for the dropout in their own top.
        dropout = a.get("dropout_rate", a.get("dropout"))
        head = {} if dropout is None else {"dropout": dropout}
    if not isinstance(head, HeadSpec):
        head = make_spec({"head": head}, f"{row.name} head").head
    task = Classification(tuple(map(str, range(a["classes"]))))
    whole = attach(model.inputs[0], model.outputs[0], task, head)
    whole.get_layer(PREDICTIONS).activation = keras.activations.get(a["classifier_activation"])
    whole.name = model.name
    return whole
