"""Which layer of a model belongs to which block of which row, read from names and graph alone.

Nothing is attached to the model, so that one that was saved and loaded with plain Keras is known
as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

from tlkit.backbones.catalog import CATALOG, Backbone, LayerInfo
from tlkit.backbones.graph import ancestors, last_narrow, sources

PREPROCESS = "preprocess"
"""Name prefix of the layers that tlkit puts in front of an application."""


def assign_blocks(row: Backbone, model: keras.Model) -> dict[str, str]:
    """Return the block of each operation of the application, by name in graph order.

    What `model` has in front of the application (other than tlkit's preprocessing) counts as its
    first block; what stands behind its last layer, the head, is left out.
    """
    feeds = sources(model)
    names = list(feeds)
    blocks = {name: block for name in names if (block := row.block_of(name))}
    if not blocks:
        return {}
    end = _end(row, names, list(blocks)[-1])
    own = ancestors(feeds, end)
    names = [name for name in names if name in own]
    blocks = {name: block for name, block in blocks.items() if name in own}
    fill = _from_consumers if row.unnamed == "consumer" else _from_previous
    filled = fill(row, names, blocks, feeds)
    return {name: block for name, block in filled.items() if not name.startswith(PREPROCESS)}


def _end(row: Backbone, names: list[str], last: str) -> str:
    """Return the last operation of the application: `last`, or what of its tail follows."""
    for name in names[names.index(last) + 1 :]:
        if not row.tail or not re.fullmatch(row.tail, name):
            break
        last = name
    return last


def _from_previous(row: Backbone, names: list[str], blocks: dict[str, str], feeds) -> dict:
    block, filled = row.blocks[0][0], {}
    for name in names:
        block = filled[name] = blocks.get(name, block)
    return filled


def _from_consumers(row: Backbone, names: list[str], blocks: dict[str, str], feeds) -> dict:
    """Give an unnamed operation to the earliest block that takes its output."""
    order = [block for block, _ in row.blocks]
    rank = {name: order.index(block) for name, block in blocks.items()}
    wanted = {}
    for name in reversed(names):
        rank.setdefault(name, wanted.get(name, len(order) - 1))
        for source in feeds[name]:
            wanted[source] = min(rank[name], wanted.get(source, rank[name]))
    if not row.blocks[0][1]:  # the stem has no name of its own: up to the first branch
        first = [name for name in names if rank[name] == 1]
        for name in first[: last_narrow(feeds, first)]:
            rank[name] = 0
    return {name: order[rank[name]] for name in names}


def describe_layers(row: Backbone, model: keras.Model) -> tuple[LayerInfo, ...]:
    """Return the application's own layers in the order of `model.layers`, each with its block."""
    return layer_infos(model, assign_blocks(row, model))


def layer_infos(model: keras.Model, blocks: dict[str, str]) -> tuple[LayerInfo, ...]:
    """Return what a freeze plan needs to know of the layers that have a block."""
    return tuple(
        LayerInfo(
            layer.name,
            blocks[layer.name],
            int(layer.count_params()),
            isinstance(layer, keras.layers.BatchNormalization),
        )
        for layer in model.layers
        if layer.name in blocks
    )


def operations_until(model: keras.Model, layers: Sequence[LayerInfo], block: str) -> set[str]:
    """Return the operations of `model` up to the end of `block`, by name.

    Those that are no layers of a block (the input, preprocessing, sums) are among them if they take
    from nothing else and a layer of the backbone depends on them; the head is not, even where it
    takes from early blocks alone.

    Args:
        layers: the backbone's own, in graph order.
    """
    blocks = list(dict.fromkeys(layer.block for layer in layers))
    inside = set(blocks[: blocks.index(block) + 1])
    known = {layer.name: layer.block in inside for layer in layers}
    feeds = sources(model)
    backbone = set(known)
    for name in reversed(feeds):
        if name in backbone:
            backbone.update(feeds[name])
    below: set[str] = set()
    for name, inputs in feeds.items():
        if name in backbone and known.get(name, below.issuperset(inputs)):
            below.add(name)
    return below


def find_row(model: keras.Model) -> Backbone | None:
    """Return the row of the application in `model`, or None.

    Every block must be there. Of the rows that fit, as ResNet50 does in a ResNet101, the one that
    names the most layers is taken, then the one with the same number of parameters; rows of the
    same names and another width (EfficientNetB1 and B2) are told apart by the latter alone.
    """
    names = [operation.name for operation in model.operations]
    best, best_score = None, (0, 0.0)
    for row in CATALOG.values():
        named = [block for name in names if (block := row.block_of(name))]
        if set(named) != {block for block, pattern in row.blocks if pattern}:
            continue
        parameters = sum(layer.parameters for layer in describe_layers(row, model))
        score = (len(named), -abs(parameters - row.parameters))
        if best is None or score > best_score:
            best, best_score = row, score
    return best
