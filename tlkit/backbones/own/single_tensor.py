"""Blocks of a model that the catalog does not know, from the narrow places of its graph."""

from __future__ import annotations

from collections.abc import Collection

import keras

from tlkit.backbones.graph import calls, narrow_cuts, sources

NORMALISATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.UnitNormalization,
)


def narrow_blocks(model: keras.Model, own: Collection[str], prefix: str) -> dict[str, str]:
    """Return the block of each operation in `own`, by name in graph order.

    Blocks end only where a single tensor goes on, and of these places only

    - before a change of the spatial size: each resolution begins a block;
    - behind a join (an addition, a concatenation; not a multiplication, which is a gate), once
      the activations and normalisations that follow it have passed.

    What would have no weights but those of normalisations goes to the block after it, at the end
    to the one before. So convolution, BatchNorm and activation stay together, a residual or
    Inception block is a block, and a plain stack has one for each resolution.

    Args:
        model: one input, one output, no model nested in it.
        own: names of operations; those that are left out are in front of or behind them.
        prefix: the blocks are called `PREFIX_1` to `PREFIX_n`.
    """
    nodes = calls(model)
    groups: list[list[str]] = []
    before, joined = None, False
    for segment in _segments(model, own):
        inputs, outputs = nodes[segment[-1]]
        size = tuple(outputs[0].shape[1:-1])
        changed = before is not None and size != before
        if not groups or changed or (joined and _heavy(model, segment)):
            groups.append([])
            joined = False
        groups[-1] += segment
        before, joined = size, joined or _joins(model, segment[-1], inputs)
    merged = _merged(model, groups)
    return {name: f"{prefix}_{i}" for i, group in enumerate(merged, 1) for name in group}


def _segments(model: keras.Model, own: Collection[str]) -> list[list[str]]:
    """Return the operations of `own` from each narrow place to the next."""
    feeds = sources(model)
    end = next(name for name, (_, made) in calls(model).items() if made[0] is model.outputs[0])
    cuts = set(narrow_cuts(feeds, end))
    segments: list[list[str]] = [[]]
    for name in (name for name in feeds if name in own):
        segments[-1].append(name)
        if name in cuts:
            segments.append([])
    return [segment for segment in segments if segment]


def _heavy(model: keras.Model, names: Collection[str]) -> bool:
    """Tell whether there are weights other than those of normalisations."""
    return any(
        layer.weights and not isinstance(layer, NORMALISATIONS)
        for layer in model.layers
        if layer.name in names
    )


def _joins(model: keras.Model, name: str, inputs: list[keras.KerasTensor]) -> bool:
    operation = next(op for op in model.operations if op.name == name)
    return len({id(x) for x in inputs}) > 1 and type(operation).__name__ != "Multiply"


def _merged(model: keras.Model, groups: list[list[str]]) -> list[list[str]]:
    merged: list[list[str]] = []
    light: list[str] = []
    for group in groups:
        light += group
        if _heavy(model, light):
            merged.append(light)
            light = []
    if light:
        merged = [*merged[:-1], [*merged[-1], *light]] if merged else [light]
    return merged
