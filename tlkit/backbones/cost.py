"""What each layer of a model costs: parameters, multiply-adds, and the share below each cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from tlkit.backbones.catalog import LayerInfo
from tlkit.backbones.graph import calls


@dataclass(frozen=True)
class LayerCost:
    """One layer: its output's shape, such as (None, 7, 7, 1280), and multiply-adds an image."""

    shape: tuple[int | None, ...]
    multiply_adds: int


@dataclass(frozen=True)
class BlockCost:
    """One block, with the shares (0 to 1) of the application up to its end, itself included."""

    block: str
    layers: int
    parameters: int
    multiply_adds: int
    parameters_below: float
    multiply_adds_below: float


def layer_costs(model: keras.Model) -> dict[str, LayerCost]:
    """Return the cost of each layer, by name; the input's size must be fixed.

    Convolutions and matrix products are counted, as in the papers of these networks;
    normalisation, activations and pooling are not.
    """
    graph = calls(model)
    costs = {}
    for layer in model.layers:
        inputs, outputs = graph[layer.name]
        went = tuple(outputs[0].shape)
        came = inputs[0].shape if inputs else went
        costs[layer.name] = LayerCost(went, _multiply_adds(layer, came, went))
    return costs


def _multiply_adds(
    layer: keras.layers.Layer, came: tuple[int | None, ...], went: tuple[int | None, ...]
) -> int:
    if isinstance(layer, keras.Model):
        total = 0
        for inner in layer.layers:
            after = inner.compute_output_shape(came)
            total += _multiply_adds(inner, came, after)
            came = after
        return total
    positions = math.prod(went[1:-1]) if layer.weights else 0
    kernels = [v for v in layer.weights if v.name.endswith("kernel")]
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def block_costs(layers: Sequence[LayerInfo], costs: dict[str, LayerCost]) -> list[BlockCost]:
    """Return the cost of each block in graph order; `layers` are those of one application."""
    parameters = sum(layer.parameters for layer in layers) or 1
    work = sum(costs[layer.name].multiply_adds for layer in layers) or 1
    rows, below, done = [], 0, 0
    for block in dict.fromkeys(layer.block for layer in layers):
        inside = [layer for layer in layers if layer.block == block]
        own = sum(layer.parameters for layer in inside)
        adds = sum(costs[layer.name].multiply_adds for layer in inside)
        below, done = below + own, done + adds
        rows.append(BlockCost(block, len(inside), own, adds, below / parameters, done / work))
    return rows
