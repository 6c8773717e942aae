"""Multiply-adds against the papers' and Keras's own numbers, and against a count by hand."""

import keras
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.backbones.cost import block_costs, layer_costs


def test_every_kind_of_layer_is_counted_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", strides=2, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = keras.layers.Conv2D(6, 1, groups=2, name="grouped")(x)
    x = keras.Sequential([keras.layers.Conv2D(5, 2, strides=2, name="inner")], name="nested")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    costs = layer_costs(keras.Model(inputs, keras.layers.Dense(7, name="dense")(x)))
    expected = {
        "conv": 16 * 9 * 3 * 4,
        "depthwise": 16 * 9 * 4,
        "norm": 0,
        "separable": 16 * (9 * 4 + 4 * 6),
        "grouped": 16 * 3 * 6,
        "nested": 4 * 4 * 6 * 5,
        "flatten": 0,
        "dense": 20 * 7,
    }
    assert {name: costs[name].multiply_adds for name in expected} == expected
    assert costs["conv"].shape == (None, 4, 4, 4)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # Tables of the papers, less the classifier: 300 M (Sandler et al. 2018), 569 M (Howard et
        # al. 2017), 66 M and two layers of the top (keras/src/applications/mobilenet_v3.py).
        ("MobileNetV2", 300 - 1.28),
        ("MobileNet", 569 - 1.02),
        ("VGG16", 15_347),  # sum over its 13 convolutions of 9 * in * out * side**2
    ],
)
def test_known_networks_cost_what_is_published(name, millions):
    built = build_backbone(name, 224, "none")
    costs = layer_costs(keras.Model(built.inputs, built.features))
    total = sum(cost.multiply_adds for cost in costs.values())
    assert total / 1e6 == pytest.approx(millions, rel=0.01)
    blocks = block_costs(built.layers, costs)
    assert sum(block.multiply_adds for block in blocks) == total
    shares = [block.multiply_adds_below for block in blocks]
    assert shares == sorted(shares)
    assert shares[-1] == blocks[-1].parameters_below == 1
