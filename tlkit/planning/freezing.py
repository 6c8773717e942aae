"""From a freeze rule to a plan, from a plan to a model.

A plan is a value: for every layer of the backbone, frozen or trained. It is made without touching
a model, can be printed, and is applied in one place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import FreezeError
from tlkit.planning.freeze_rule import (
    FORMS,
    compiled,
    last_blocks,
    no_such,
    read_part,
    slice_bounds,
)

BATCHNORM = ("frozen", "affine", "train")


@dataclass(frozen=True)
class BlockPlan:
    """One line of a plan's table."""

    block: str
    layers: int
    parameters: int
    frozen_layers: int
    batchnorms: int

    @property
    def state(self) -> str:
        """`frozen`, `trained`, or how many of its layers are frozen."""
        if self.frozen_layers == self.layers:
            return "frozen"
        return f"{self.frozen_layers} frozen" if self.frozen_layers else "trained"


@dataclass(frozen=True)
class FreezePlan:
    """Which layers of a backbone are frozen.

    Attributes:
        rule: the rule it was made from.
        layers: all layers of the backbone in graph order.
        frozen: the names of the frozen ones.
        batchnorm: what happens to BatchNorm in the layers that are not frozen.
    """

    rule: str
    layers: tuple[LayerInfo, ...]
    frozen: frozenset[str]
    batchnorm: str = "frozen"

    @property
    def cut(self) -> str | None:
        """The deepest block up to which, itself included, every layer is frozen; None: no block."""
        deepest = None
        for row in self.table():
            if row.frozen_layers < row.layers:
                return deepest
            deepest = row.block
        return deepest

    @property
    def all_frozen(self) -> bool:
        """Whether no layer of the backbone is trained."""
        return len(self.frozen) == len(self.layers)

    def __str__(self) -> str:
        """Return the table of blocks as text."""
        head = ("block", "layers", "parameters", "state", "BatchNorm")
        lines = [head]
        for row in self.table():
            held = row.frozen_layers == row.layers
            norm = ("frozen" if held else self.batchnorm) if row.batchnorms else ""
            state = (str(row.layers), f"{row.parameters:,}", row.state, norm)
            lines.append((row.block, *state))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        numbers = (1, 2)
        texts = [
            "  ".join(
                cell.rjust(width) if i in numbers else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([f"freeze {self.rule}", *texts])

    def table(self) -> list[BlockPlan]:
        """Return a row for each block, in graph order."""
        rows = []
        for block in block_names(self.layers):
            inside = [layer for layer in self.layers if layer.block == block]
            rows.append(
                BlockPlan(
                    block,
                    len(inside),
                    sum(layer.parameters for layer in inside),
                    sum(layer.name in self.frozen for layer in inside),
                    sum(layer.batchnorm for layer in inside),
                )
            )
        return rows


def cuts_through(layers: Sequence[LayerInfo], rule: str) -> list[str]:
    """Say of each raw index in `rule` that lies inside a block which boundaries are nearest."""
    texts = []
    for start, stop in re.findall(r"layers=(-?\d*):(-?\d*)", rule):
        begin, end, _ = slice(*(int(x) if x else None for x in (start, stop))).indices(len(layers))
        for index in (begin, end):
            if not _is_boundary(layers, index):
                block = layers[index].block
                texts.append(
                    f"freeze rule {rule!r}: index {index} lies inside {block}, whose layers "
                    f"belong together; the nearest boundaries are {_nearest(layers, index)}"
                )
    return texts


def _is_boundary(layers: Sequence[LayerInfo], index: int) -> bool:
    before = {layer.block for layer in layers[:index]}
    return before.isdisjoint(layer.block for layer in layers[index:])


def _nearest(layers: Sequence[LayerInfo], index: int) -> str:
    """Return the boundaries below and above `index`, as indices where they are such."""
    blocks = block_names(layers)
    place = blocks.index(layers[index].block)
    said = []
    for block in blocks[max(0, place - 1) : place + 1]:
        end = max(i for i, layer in enumerate(layers) if layer.block == block) + 1
        text = f" (index {end})" if _is_boundary(layers, end) else ""
        said.append(f"until={block}{text}")
    return " and ".join(said)


def block_names(layers: Sequence[LayerInfo]) -> list[str]:
    """Return the names of the blocks in graph order."""
    return list(dict.fromkeys(layer.block for layer in layers))


def plan_freeze(layers: Sequence[LayerInfo], rule: str, batchnorm: str = "frozen") -> FreezePlan:
    """Turn a freeze rule into a plan.

    Args:
        layers: the backbone's layers in graph order.
        rule: `all`, `none`, or parts joined by commas, applied from left to right: each adds its
            layers to the frozen ones, or takes them out with a minus in front.
            `until=NAME`: the block or layer and all before it; `last=N`: all but the last N
            blocks; `layers=A:B`: a Python slice of layer indices; `re=PATTERN`: names that match
            in full.
        batchnorm: `frozen`, `affine` or `train`.

    Raises:
        FreezeError: a part cannot be read, or matches nothing.

    Example:
        >>> layers = [LayerInfo("a", "stem", 1), LayerInfo("b", "top", 1)]
        >>> sorted(plan_freeze(layers, "until=stem").frozen)
        ['a']
    """
    frozen: set[str] = set()
    for part in rule.split(","):
        text = part.strip()
        names = _matched(layers, text.removeprefix("-"), rule)
        frozen = frozen - names if text.startswith("-") else frozen | names
    return FreezePlan(rule, tuple(layers), frozenset(frozen), batchnorm)


def _matched(layers: Sequence[LayerInfo], part: str, rule: str) -> set[str]:
    key, value = read_part(part, rule)
    if key == "all":
        return {layer.name for layer in layers}
    if key == "none":
        return set()
    finders = {"until": _until, "last": _all_but_last, "layers": _slice, "re": _pattern}
    names = finders[key](layers, value, rule)
    if not names:
        raise FreezeError(f"freeze rule {rule!r}: {part!r} matches no layer. Allowed: {FORMS}")
    return names


def _until(layers: Sequence[LayerInfo], value: str, rule: str) -> set[str]:
    blocks = block_names(layers)
    if value in blocks:
        # By block, not by place: the next block's first layers may stand among this one's.
        before = blocks[: blocks.index(value) + 1]
        return {layer.name for layer in layers if layer.block in before}
    ends = [i for i, layer in enumerate(layers) if layer.name == value]
    if not ends:
        raise no_such(value, blocks, [layer.name for layer in layers], rule)
    return {layer.name for layer in layers[: ends[-1] + 1]}


def _all_but_last(layers: Sequence[LayerInfo], value: str, rule: str) -> set[str]:
    blocks = block_names(layers)
    kept = blocks[: len(blocks) - last_blocks(value, len(blocks), rule)]
    return {layer.name for layer in layers if layer.block in kept}


def _slice(layers: Sequence[LayerInfo], value: str, rule: str) -> set[str]:
    start, stop = slice_bounds(value, rule)
    return {layer.name for layer in layers[start:stop]}


def _pattern(layers: Sequence[LayerInfo], value: str, rule: str) -> set[str]:
    pattern = compiled(value, rule)
    return {layer.name for layer in layers if pattern.fullmatch(layer.name)}


def apply_plan(model, plan: FreezePlan) -> None:
    """Set every backbone layer's `trainable` in `model` to what `plan` says; the head is trained.

    The model must be compiled afterwards: Keras keeps the variables that it found at `compile`.

    BatchNorm that is not frozen by the rule follows `plan.batchnorm`. Only `trainable = False`
    on the layer itself keeps its statistics from being used and updated by the batch: a
    `training=False` given when the graph was built is overridden by `fit` (keras#20285).
    """
    known = {layer.name: layer for layer in plan.layers}
    for layer in model.layers:
        info = known.get(layer.name)
        if info is None:
            layer.trainable = True
        elif info.batchnorm:
            _apply_batchnorm(layer, "frozen" if info.name in plan.frozen else plan.batchnorm)
        else:
            layer.trainable = info.name not in plan.frozen


def _apply_batchnorm(layer, policy: str) -> None:
    layer.trainable = policy == "train"
    # A frozen layer runs on its moving statistics; its scale and offset are marked by themselves,
    # since the model collects its trainable variables one by one. Always: TensorFlow's tracking
    # drops an assignment of the value that `trainable` has, and they would stay as they were.
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            variable.trainable = policy != "frozen"
