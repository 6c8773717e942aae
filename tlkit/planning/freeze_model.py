"""Freeze and unfreeze a model of the user's own, by the blocks of the application inside it.

Works on any model that the functions of `tlkit.applications` or `tlkit.train` made, alone, under
a top of the user's own, nested in another model, or loaded from a file: the application is known
by its layers' names.
"""

from __future__ import annotations

import warnings

import keras

from tlkit.backbones.blocks import describe_layers, find_row
from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import BackboneError, FreezeError
from tlkit.planning import rules
from tlkit.planning.freezing import FreezePlan, apply_plan, block_names, cuts_through, plan_freeze


def freeze(
    model: keras.Model,
    rule: str = "all",
    batchnorm: str = "frozen",
    examples: int | None = None,
) -> FreezePlan:
    """Freeze the layers of `model` that `rule` names, and train all others.

    The whole application follows the rule, whatever was frozen before; what does not belong to
    it, such as the top, is trained. If that changes anything in a compiled model, the model must
    be compiled again: Keras would silently go on training the old layers, so its `fit` is made to
    refuse until then. Where the application is nested in a model, pass the model that is
    compiled: from the inner one Keras knows no way to the outer.

    Args:
        model: holds an application of the catalog, at most one level deep.
        rule: see `tlkit.planning.freezing.plan_freeze`; also `auto`: by the number of examples, as
            `tlkit.train` chooses.
        batchnorm: for BatchNorm in the layers that are not frozen: `frozen` (statistics, scale
            and offset held), `affine` (scale and offset trained), `train`.
        examples: number of training examples, for `auto`.

    Returns:
        The plan; `print` shows it as a table.

    Raises:
        BackboneError: no application of the catalog is in the model.
        FreezeError: the rule cannot be read or matches nothing.

    Example:
        >>> import tlkit
        >>> from tlkit.applications import MobileNetV2
        >>> model = MobileNetV2(weights=None, classes=3, input_shape=(32, 32, 3))
        >>> tlkit.freeze(model, "until=block_12").cut
        'block_12'
    """
    inner, layers = _application(model)
    plan = plan_freeze(layers, _chosen(rule, model, layers, examples), batchnorm)
    for text in cuts_through(layers, plan.rule):
        warnings.warn(text, stacklevel=2)
    before = _state(model)
    model.trainable = True  # reaches every layer: a frozen model would hide its layers' own flags
    apply_plan(inner, plan)
    if _state(model) != before:
        _must_compile(model, inner)
    return plan


def unfreeze(model: keras.Model, batchnorm: str = "frozen") -> FreezePlan:
    """Train every layer of the application in `model`; BatchNorm as `batchnorm` says.

    The same as `freeze(model, "none", batchnorm)`; see there.
    """
    return freeze(model, "none", batchnorm)


def read_freeze(model: keras.Model) -> FreezePlan:
    """Return what is frozen in `model` now; `print` shows it as a table.

    Raises:
        BackboneError: no application of the catalog is in the model.
    """
    inner, layers = _application(model)
    known = [(info, inner.get_layer(info.name)) for info in layers]
    norms = {_batchnorm_state(layer) for info, layer in known if info.batchnorm}
    trained = norms - {"frozen"}
    # BatchNorm that is held counts as frozen only where its block is: where it is trained around
    # it, that is the BatchNorm policy's doing.
    busy = {
        info.block
        for info, layer in known
        if info.parameters and not info.batchnorm and inner.trainable and layer.trainable
    }
    frozen = frozenset(
        info.name
        for info, layer in known
        if (info.block not in busy if info.batchnorm else not layer.trainable)
        or not (model.trainable and inner.trainable)
    )
    policy = trained.pop() if len(trained) == 1 else "mixed" if trained else "frozen"
    return FreezePlan("as it is", layers, frozen, policy)


def _batchnorm_state(layer: keras.layers.Layer) -> str:
    if layer.trainable:
        return "train"
    scales = [v for v in (layer.gamma, layer.beta) if v is not None]
    return "affine" if scales and all(v.trainable for v in scales) else "frozen"


def _application(model: keras.Model) -> tuple[keras.Model, tuple[LayerInfo, ...]]:
    """Return the application in `model`, which may be `model` itself, and its layers."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    for candidate in (model, *nested):
        row = find_row(candidate) if isinstance(candidate, keras.Function) else None
        if row is not None:
            return candidate, describe_layers(row, candidate)
    raise BackboneError(
        f"freeze: no application of the catalog is known by its layers' names in model "
        f"{model.name!r}. Allowed: a model of tlkit.applications or keras.applications, alone, "
        "with a top, or as a layer of another model"
    )


def _chosen(
    rule: str, model: keras.Model, layers: tuple[LayerInfo, ...], examples: int | None
) -> str:
    if rule != "auto":
        return rule
    if examples is None:
        raise FreezeError("freeze rule 'auto': goes by the size of the data. Allowed: examples=N")
    classes = model.output_shape[-1] or 1
    regime = rules.choose_regime(examples, classes)
    blocks = len(block_names(layers))
    count = rules.blocks_to_train(str(regime.value), blocks).value
    return "all" if count == 0 else "none" if count == blocks else f"last={count}"


def _state(model: keras.Model) -> list[bool]:
    flags = [layer.trainable for layer in model._flatten_layers()]
    return flags + [variable.trainable for variable in model.variables]


def _must_compile(*models: keras.Model) -> None:
    for model in models:
        if model.compiled:
            model.compiled = False  # fit: "You must call `compile()` before calling `fit()`."
            warnings.warn(
                f"model {model.name!r} was compiled for another freeze plan: compile it again",
                stacklevel=3,
            )
