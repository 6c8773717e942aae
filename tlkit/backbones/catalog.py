"""The catalog: one row an application, as data; importing it imports no Keras.

A row knows its layers by name, never by index. The rows themselves stand in `families/`.
"""

from __future__ import annotations

import re

from tlkit.backbones.families import (
    convnext,
    efficientnet,
    inception,
    mobilenet,
    nasnet,
    residual,
)
from tlkit.backbones.families.row import Backbone, LayerInfo, WeightsFile
from tlkit.errors import BackboneError, did_you_mean

__all__ = ["CATALOG", "MODEL", "Backbone", "LayerInfo", "WeightsFile"]
__all__ += ["catalog_name", "is_given", "list_backbones", "lookup"]

MODEL = "<model>"
"""What `backbone.name` says in `spec.yaml` when Python passed a model object."""

GIVEN = r"<model>|.*\.keras|[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""A model of the user's own in the place of a row: an object, a file, `module:function`."""

CATALOG: dict[str, Backbone] = {
    row.name: row
    for family in (mobilenet, efficientnet, residual, inception, nasnet, convnext)
    for row in family.ROWS
}


def is_given(name: str) -> bool:
    """Tell whether `name` stands for a model of the user's own instead of a row."""
    return re.fullmatch(GIVEN, name) is not None


def _folded(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


_FOLDED = {_folded(name): name for name in CATALOG}


def catalog_name(name: str) -> str:
    """Return the name in the catalog of what is written in another case, or with underscores.

    A name that is not there is returned as it is.

    >>> catalog_name("mobilenet_v2"), catalog_name("resnet50"), catalog_name("nonet")
    ('MobileNetV2', 'ResNet50', 'nonet')
    """
    return _FOLDED.get(_folded(name), name)


def list_backbones() -> tuple[str, ...]:
    """Return the names of all pretrained networks; `tlkit backbones` says more of each."""
    return tuple(CATALOG)


def lookup(name: str) -> Backbone:
    """Return the row of `name`, see `catalog_name`.

    Raises:
        BackboneError: there is no such row; the message names the nearest one.
    """
    name = catalog_name(name)
    if name not in CATALOG:
        raise BackboneError(
            f"Unknown backbone.{did_you_mean(name, CATALOG)} Allowed: {', '.join(CATALOG)}, "
            f"path/to/model.keras, module:function. Received: {name!r}"
        )
    return CATALOG[name]
