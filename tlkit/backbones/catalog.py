"""The catalog: one row an application, as data; importing it imports no Keras.

A row knows its layers by name, never by index. The rows themselves stand in `families/`.
"""

from __future__ import annotations

from tlkit.backbones.families import (
    convnext,
    efficientnet,
    inception,
    mobilenet,
    nasnet,
    residual,
)
from tlkit.backbones.row import Backbone, LayerInfo, WeightsFile
from tlkit.errors import BackboneError, did_you_mean

__all__ = ["CATALOG", "Backbone", "LayerInfo", "WeightsFile", "lookup"]

CATALOG: dict[str, Backbone] = {
    row.name: row
    for family in (mobilenet, efficientnet, residual, inception, nasnet, convnext)
    for row in family.ROWS
}


def lookup(name: str) -> Backbone:
    """Return the row of `name`.

    Raises:
        BackboneError: there is no such row; the message names the nearest one.
    """
    if name not in CATALOG:
        raise BackboneError(
            f"Unknown backbone.{did_you_mean(name, CATALOG)} Allowed: {', '.join(CATALOG)}. "
            f"Received: {name!r}"
        )
    return CATALOG[name]
