"""Where a network is cut: frozen below, trained above."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from tlkit.backbones.graph import crossing, sources
from tlkit.planning.freezing import FreezePlan, block_names
from tlkit.tasks.pooled import POOLED


@dataclass(frozen=True)
class Cut:
    """A place where frozen ends: its name, and what crosses it.

    That is one tensor, or a list of them where a block reads more than the one before (NASNet).
    """

    name: str
    tensor: keras.KerasTensor | list[keras.KerasTensor]


def cut_of(model: keras.Model, plan: FreezePlan) -> Cut | None:
    """Return where `model` can be cut under `plan`; None if nothing is frozen first."""
    if plan.all_frozen:
        return Cut("pooled", model.get_layer(POOLED).output)
    if plan.cut is None:
        return None
    tensors = crossing(model, _below(model, plan))
    return Cut(plan.cut, tensors[0] if len(tensors) == 1 else tensors)


def _below(model: keras.Model, plan: FreezePlan) -> set[str]:
    """Return the operations below the plan's cut, those that are no layers of a block included."""
    blocks = block_names(plan.layers)
    frozen = blocks[: blocks.index(plan.cut) + 1]
    known = {layer.name: layer.block in frozen for layer in plan.layers}
    below: set[str] = set()
    for name, inputs in sources(model).items():
        if known.get(name, below.issuperset(inputs)):
            below.add(name)
    return below


def split_at(model: keras.Model, cut: Cut | None) -> tuple[keras.Model | None, keras.Model]:
    """Return prefix and suffix; both share `model`'s layers and weights.

    The suffix is a model of its own even where there is no prefix, so that compiling it leaves
    the delivered model uncompiled and free of tlkit's schedule.
    """
    if cut is None:
        return None, keras.Model(model.input, model.output)
    return keras.Model(model.input, cut.tensor), keras.Model(cut.tensor, model.output)
