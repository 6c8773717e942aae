"""Feature maps of a backbone at several strides, for heads that answer for places in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from tlkit.backbones.blocks import operations_until
from tlkit.backbones.catalog import LayerInfo
from tlkit.backbones.graph import calls, crossing

STRIDES = (4, 8, 16, 32)
"""Strides of the levels: those of feature pyramids (C2 to C5 in Lin et al. 2017,
https://arxiv.org/abs/1612.03144, section 3)."""

STRIDED = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
)
"""Layers that say their stride; of small inputs their shapes do not tell it (3 pixels to 1)."""

MARGINS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
"""Layers that change the size and not the stride."""

GLOBAL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
"""Layers behind which there are no places any more: gates, until they multiply a feature map."""


def find_levels(
    inputs: keras.KerasTensor, features: keras.KerasTensor, layers: Sequence[LayerInfo]
) -> dict[int, keras.KerasTensor]:
    """Return the last narrow tensor at each stride of `STRIDES` that the backbone has, by stride.

    Narrow is what a block hands on: it crosses the boundary to the next block, behind the
    projection of the block (Sandler et al. 2018, https://arxiv.org/abs/1801.04381, figure 3:
    bottlenecks are narrow, what lies between them is wide). The expanded tensors inside of a block,
    which tutorials tap, hold four to six times the numbers. In NASNet, whose blocks read the two
    before them, it is the newer one of the two tensors that cross.

    The last block counts where it ends at the features, unless all it does is widen them for a
    classifier: more channels at the same stride (MobileNetV2: 320 to 1,280).

    Args:
        inputs: (batch, size, size, 3).
        features: (batch, height, width, channels), computed from `inputs`.
        layers: the backbone's own, in graph order.

    Returns:
        KerasTensors (batch, height, width, channels), the smallest stride first. `size / stride` is
        their side but for what convolutions without padding take off (InceptionV3 at 299 px: 35 at
        stride 8). Fewer levels where a backbone has no block that ends at a stride.
    """
    model = keras.Model(inputs, features)
    steps = _strides(model)
    blocks = list(dict.fromkeys(layer.block for layer in layers))
    ends = []
    for block in blocks[:-1]:
        crossed = crossing(model, operations_until(model, layers, block))
        ends += [tensor for tensor in crossed[-1:] if id(tensor) in steps]
    if id(features) in steps and not (ends and _widens(ends[-1], features, steps)):
        ends.append(features)
    levels = {steps[id(tensor)]: tensor for tensor in ends}
    return {stride: levels[stride] for stride in STRIDES if stride in levels}


def _widens(before: keras.KerasTensor, after: keras.KerasTensor, steps: dict[int, int]) -> bool:
    same = steps[id(before)] == steps[id(after)]
    return same and after.shape[-1] > before.shape[-1]


def _strides(model: keras.Model) -> dict[int, int]:
    """Return the stride of each feature map, by the tensor's id: input pixels from one to the next.

    A join has the stride of its first input that is a feature map.
    """
    nodes, operations = calls(model), {op.name: op for op in model.operations}
    steps = {id(tensor): 1 for tensor in model.inputs}
    for name, (inputs, outputs) in nodes.items():
        maps = [tensor for tensor in inputs if id(tensor) in steps]
        if not maps or isinstance(operations[name], GLOBAL):
            continue
        for tensor in outputs:
            if len(tensor.shape) == 4:
                factor = _factor(operations[name], maps[0], tensor)
                steps[id(tensor)] = round(steps[id(maps[0])] * factor)
    return steps


def _factor(operation: keras.Operation, came: keras.KerasTensor, went: keras.KerasTensor) -> float:
    """Return by how much an operation raises the stride; below 1 where it enlarges."""
    if isinstance(operation, STRIDED):
        return float(operation.strides[0])
    if isinstance(operation, MARGINS):
        return 1.0
    return 2.0 ** round(math.log2(came.shape[1] / went.shape[1]))
