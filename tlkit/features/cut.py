"""Where a network is cut: frozen below, trained above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from tlkit.backbones.blocks import operations_until
from tlkit.backbones.graph import crossing
from tlkit.planning.freezing import FreezePlan
from tlkit.tasks.pooled import POOLED


@dataclass(frozen=True)
class Cut:
    """A place where frozen ends.

    Attributes:
        name: of the last frozen block, of the head's pooling, or of the maps that a head reads.
        tensors: what crosses it, in graph order: one tensor of most networks, two where a block
            reads the two before it (NASNet), several where a head reads at several strides.
    """

    name: str
    tensors: tuple[keras.KerasTensor, ...]


def cut_of(model: keras.Model, plan: FreezePlan) -> Cut | None:
    """Return where `model` can be cut under `plan`; None if nothing is frozen first."""
    if plan.all_frozen and any(layer.name == POOLED for layer in model.layers):
        return Cut("pooled", (model.get_layer(POOLED).output,))
    if plan.cut is None:
        return None
    below = operations_until(model, plan.layers, plan.cut)
    name = "the pyramid" if plan.all_frozen else plan.cut
    return Cut(name, tuple(crossing(model, below)))


def split_at(model: keras.Model, cut: Cut | None) -> tuple[keras.Model | None, keras.Model]:
    """Return prefix and suffix; both share `model`'s layers and weights.

    The suffix is a model of its own even where there is no prefix, so that compiling it leaves
    the delivered model uncompiled and free of tlkit's schedule.
    """
    if cut is None:
        return None, keras.Model(model.input, model.output)
    return prefix_to(model, cut.tensors), keras.Model(alone_or_list(cut.tensors), model.output)


def prefix_to(
    model: keras.Model, tensors: Sequence[keras.KerasTensor], name: str | None = None
) -> keras.Model:
    """Return what leads from the input of `model` to `tensors`, on its layers and weights."""
    return keras.Model(model.input, alone_or_list(tensors), name=name)


def alone_or_list(
    tensors: Sequence[keras.KerasTensor],
) -> keras.KerasTensor | list[keras.KerasTensor]:
    """Return tensors as Keras takes the inputs or outputs of a model."""
    return tensors[0] if len(tensors) == 1 else list(tensors)
