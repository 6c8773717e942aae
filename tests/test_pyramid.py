"""Feature maps by stride: narrow ones, of every row of the catalog and of models of one's own."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from tlkit.backbones.build import build_backbone
from tlkit.backbones.catalog import CATALOG
from tlkit.backbones.own.user_model import build_user_model, open_user_model
from tlkit.data.feed.examples import Examples
from tlkit.features.cache import list_entries
from tlkit.features.cut import cut_of, split_at
from tlkit.features.store import FeatureStore
from tlkit.planning.freezing import block_names, plan_freeze
from tlkit.progress import Progress

ALWAYS = ("MobileNetV2", "Xception", "ConvNeXtTiny")
"""Rows with and without BatchNorm, and with skips of convolutions, that are quickly built."""


@pytest.fixture(
    scope="module",
    params=[n if n in ALWAYS else pytest.param(n, marks=pytest.mark.full) for n in CATALOG],
)
def network(request):
    """A row, its network without top, and two images of the smallest size that it takes."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    row = CATALOG[request.param]
    coarse = np.random.default_rng(0).uniform(0, 255, (4, 3, 3, 3)).astype("float32")
    images = keras.ops.image.resize(coarse, (row.min_size, row.min_size), "bilinear")
    return row, build_backbone(row.name, row.min_size, "none"), np.asarray(images)


@pytest.mark.full
def test_levels_at_the_size_of_the_weights_are_those_at_the_smallest(network):
    row, small, _ = network
    built = build_backbone(row.name, row.default_size, "none")
    for stride, level in built.pyramid.items():
        assert 2 ** round(math.log2(row.default_size / level.shape[1])) == stride
        assert level.shape[-1] == small.pyramid[stride].shape[-1]
    if row.default_size == 224:
        assert [level.shape[1] for level in built.pyramid.values()] == [56, 28, 14, 7]


def reading(built):
    """A model whose head reads every level."""
    read = [
        layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(level))
        for level in built.pyramid.values()
    ]
    return keras.Model(built.inputs, layers.Dense(3)(layers.Concatenate()(read)))


@pytest.mark.parametrize(
    "frozen", [pytest.param("all", marks=pytest.mark.full), "all but the last block"]
)
def test_levels_below_a_cut_are_kept_in_one_pass(network, tmp_path, frozen):
    row, built, images = network
    model, passes = reading(built), []
    rule = "all" if frozen == "all" else f"until={block_names(built.layers)[-2]}"
    cut = cut_of(model, plan_freeze(built.layers, rule))
    levels = list(built.pyramid.values())
    kept = {id(tensor) for tensor in cut.tensors}
    if frozen == "all":
        assert kept == {id(level) for level in levels}
    else:
        assert {id(level) for level in levels if level is not built.features} <= kept

    def batches(chosen):
        chosen = list(chosen)
        passes.append(chosen)
        return [(images[i : i + 2], np.zeros(2)) for i in chosen[::2]]

    names = [f"{row.name}{i}" for i in range(4)]
    part = Examples(names, np.zeros(4), batches, lambda _: batches(range(4)))
    store = FeatureStore(model, tmp_path, 2**30, part, Progress(quiet=True))
    assert store.keeps(cut)
    passes.clear()  # of the trial of engines
    rows_ = store.rows([cut], part)
    assert passes == [[0, 1, 2, 3]]
    assert len(list_entries(tmp_path)) == len(cut.tensors)
    _, suffix = split_at(model, cut)
    whole = keras.Model(model.inputs[0], [*cut.tensors, *model.outputs])
    *tensors, answer = whole.predict_on_batch(images)
    for found, expected in zip(rows_.take(), tensors, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    got = np.asarray(suffix(list(rows_.take()), training=False))
    np.testing.assert_allclose(got, answer, atol=1e-5 * np.abs(answer).max())


def own(model, size=None):
    return build_user_model(open_user_model("<model>", model, size))


def test_an_application_in_a_model_of_ones_own_has_its_levels():
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    inputs = keras.Input((96, 96, 3))
    x = layers.Conv2D(64, 1)(base(layers.Rescaling(1 / 127.5, offset=-1)(inputs)))
    built = own(keras.Model(inputs, x))
    sizes = {stride: level.shape[1:] for stride, level in built.pyramid.items()}
    assert sizes == {4: (24, 24, 24), 8: (12, 12, 32), 16: (6, 6, 96), 32: (3, 3, 64)}


def test_a_model_of_ones_own_has_the_levels_that_it_reaches():
    inputs = x = keras.Input((50, 50, 3))
    for filters in (4, 8, 12):
        x = layers.ZeroPadding2D(1)(x)
        x = layers.ReLU()(layers.Conv2D(filters, 3, 2)(x))
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Multiply()([layers.Dense(filters, "sigmoid")(gate), x])
    built = own(keras.Model(inputs, x))
    sizes = {stride: level.shape[1:] for stride, level in built.pyramid.items()}
    assert sizes == {4: (13, 13, 8), 8: (7, 7, 12)}
    answers = keras.Model(built.inputs, list(built.pyramid.values()))(np.zeros((1, 50, 50, 3)))
    assert [tuple(level.shape) for level in answers] == [(1, 13, 13, 8), (1, 7, 7, 12)]


def test_what_is_enlarged_again_has_the_smaller_stride():
    inputs = keras.Input((32, 32, 3))
    down = layers.Conv2D(4, 3, 4, padding="same", name="down")(inputs)
    deep = layers.Conv2D(8, 3, 2, padding="same", name="deep")(down)
    up = layers.Conv2DTranspose(4, 2, 2, name="up")(deep)
    built = own(keras.Model(inputs, layers.Conv2D(6, 3, padding="same")(up)))
    sizes = {stride: level.shape[1:] for stride, level in built.pyramid.items()}
    assert sizes == {4: (8, 8, 6), 8: (4, 4, 8)}
