"""Every row of the catalog against the installed Keras: sizes, blocks, preprocessing, cuts.

One row of each family is tested always, all of them with TLKIT_FULL=1. Checks that build a network
anew spare the largest then.
"""

import functools
import gc
import importlib
import inspect
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import FAMILIES, FULL, rows

import tlkit.applications
from tlkit.backbones.blocks import assign_blocks, find_row
from tlkit.backbones.build import build_backbone
from tlkit.backbones.catalog import CATALOG, lookup
from tlkit.backbones.graph import sources
from tlkit.errors import BackboneError
from tlkit.features.cut import cut_of, split_at
from tlkit.planning.freezing import apply_plan, block_names, plan_freeze

ROWS = rows(CATALOG)
LARGE = (
    *("InceptionResNetV2", "NASNetMobile", "DenseNet121", "InceptionV3", "Xception", "ResNet50"),
    "EfficientNetV2B0",
)
"""Rows that take longest to build: anew, they are so in full runs alone."""
IMAGES = 4


def smooth_images(size):
    """Smooth images (4, size, size, 3), 0-255: noise makes every network answer alike."""
    coarse = np.random.default_rng(0).uniform(0, 255, (IMAGES, 3, 3, 3)).astype("float32")
    return np.asarray(keras.ops.image.resize(coarse, (size, size), "bilinear"))


def relative_difference(got, expected):
    got, expected = np.asarray(got, "float64"), np.asarray(expected, "float64")
    return np.abs(got - expected).max() / np.abs(expected).max()


def randomise(model, images):
    """Give normalisations and layer scales numbers of their own, statistics those of `images`.

    The initial 0 and 1 would hide mistakes, a layer scale of 1e-6 all of ConvNeXt; random
    statistics would let the signal fade away in depth.
    """
    rng = np.random.default_rng(2)
    layers = list(model._flatten_layers(include_self=False))
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    for layer in [*norms, *(x for x in layers if isinstance(x, keras.layers.LayerNormalization))]:
        for variable, low, high in ((layer.gamma, 0.7, 1.3), (layer.beta, -0.3, 0.3)):
            if variable is not None:
                variable.assign(rng.uniform(low, high, variable.shape))
    for layer in layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(rng.uniform(0.3, 0.7, layer.gamma.shape))
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model(images, training=True)
    for layer in norms:
        layer.momentum = 0.99


@functools.lru_cache(maxsize=1)  # one row in memory at a time
def build(name):
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(1)
    row = CATALOG[name]
    built = build_backbone(name, row.min_size, "none")
    model = keras.Model(built.inputs, built.features)
    images = smooth_images(row.min_size)
    randomise(model, images)
    return row, built, model, images, np.asarray(model(images, training=False))


def some_rows(names) -> list:
    """Return the parameters of a test over rows of the catalog, `full` all but `names`."""
    return [n if n in names else pytest.param(n, marks=pytest.mark.full) for n in CATALOG]


CHANNELS = {
    "MobileNet": [128, 256, 512, 1024],
    "MobileNetV2": [24, 32, 96, 320],
    "MobileNetV3Small": [16, 24, 48, 96],
    "EfficientNetB0": [24, 40, 112, 320],
    "EfficientNetV2B0": [32, 48, 112, 192],
    "EfficientNetLite0": [24, 40, 112, 320],
    "VGG16": [128, 256, 512, 512],
    "ResNet50": [256, 512, 1024, 2048],
    "ResNet50V2": [256, 512, 1024, 2048],
    "DenseNet121": [256, 512, 1024, 1024],
    "InceptionV3": [288, 768, 2048],
    "InceptionResNetV2": [320, 1088, 1536],
    "Xception": [128, 256, 728, 1024],
    "NASNetMobile": [44, 264, 528, 1056],
    "ConvNeXtTiny": [96, 192, 384, 768],
}
"""At strides 4, 8, 16 and 32, from the tables of the papers; `WITHOUT_4` from stride 8."""

WITHOUT_4 = ("InceptionV3", "InceptionResNetV2")
"""Rows whose stem is one block that ends at stride 8."""


@pytest.fixture(scope="module", params=ROWS)
def network(request):
    return build(request.param)


def test_the_catalog_has_every_constructor_of_keras():
    # A package of keras.applications exports its constructors under their own names only.
    own = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(CATALOG) == own | {"EfficientNetLite0"}
    assert len(own) == 40


def test_parameters_are_the_rows(network):
    row, built, model, _, _ = network
    assert model.count_params() == row.parameters
    assert sum(layer.parameters for layer in built.layers) == row.parameters


def test_normalisation_is_the_rows(network):
    row, built, model, _, _ = network
    kinds = {type(layer).__name__ for layer in model._flatten_layers()}
    expected = {
        "batchnorm": {"BatchNormalization"},
        "layernorm": {"LayerNormalization"},
        "none": set(),
    }[row.normalisation]
    assert kinds & {"BatchNormalization", "LayerNormalization", "GroupNormalization"} == expected
    assert any(layer.batchnorm for layer in built.layers) == row.batchnorm


def test_preprocessing_is_that_of_keras(network):
    row, built, model, _, _ = network
    images = np.random.default_rng(3).integers(0, 256, (2, row.min_size, row.min_size, 3))
    images = images.astype("float32")
    module = importlib.import_module(f"tlkit.applications.{row.module}")
    expected = module.preprocess_input(images.copy())
    first = model.get_layer(built.layers[1].name).input
    if row.preprocessing == "inside":
        assert first is built.inputs
        assert np.array_equal(expected, images)
        return
    got = np.asarray(keras.Model(built.inputs, first)(images))
    assert relative_difference(got, expected) < 1e-5
    assert relative_difference(got, images) > 0.1, "the test could not tell it from none"


def test_strides_and_channels_are_those_of_the_papers(network):
    row, built, *_ = network
    found = {stride: level.shape[-1] for stride, level in built.pyramid.items()}
    assert list(found) == [4, 8, 16, 32][row.name in WITHOUT_4 :]
    assert list(found.values()) == CHANNELS.get(row.name, list(found.values()))


def test_blocks_cover_every_layer_once_in_graph_order(network):
    row, built, model, _, _ = network
    own = [x.name for x in model.layers if not x.name.startswith("preprocess")]
    assert [layer.name for layer in built.layers] == own
    assert block_names(built.layers) == [block for block, _ in row.blocks]
    order = [block for block, _ in row.blocks]
    blocks, feeds = assign_blocks(row, model), sources(model)
    for name, block in blocks.items():
        for source in feeds[name]:
            behind = order.index(blocks.get(source, order[0]))
            assert behind <= order.index(block), f"{source} ({order[behind]}) feeds {name}"


def test_a_name_is_in_no_two_blocks(network):
    row, built, _, _, _ = network
    for layer in built.layers:
        fits = [b for b, pattern in row.blocks if pattern and re.fullmatch(pattern, layer.name)]
        assert len(fits) <= 1, f"{layer.name} is in {fits}"


@functools.lru_cache(maxsize=1)
def boundaries(name):
    """What crosses behind each block but the last, by block."""
    _, built, model, _, _ = build(name)
    return {
        block: cut_of(model, plan_freeze(built.layers, f"until={block}")).tensors
        for block in block_names(built.layers)[:-1]
    }


def test_one_tensor_crosses_a_boundary_two_in_nasnet(network):
    row = network[0]
    several = [block for block, ends in boundaries(row.name).items() if len(ends) > 1]
    if row.module == "nasnet":
        assert several == [block for block, _ in row.blocks][1:-1]
    else:
        assert several == []


def test_block_by_block_is_the_whole(network):
    """Each block as a model of its own, one after the other: this uses every boundary."""
    row, _, model, images, expected = network
    assert expected.std(axis=0).max() / np.abs(expected).max() > 1e-3, "images look all alike"
    known = {id(model.inputs[0]): (model.inputs[0], images)}
    for ends in [*boundaries(row.name).values(), (model.output,)]:
        # Of two tensors that cross, the older one goes past the block: no model of Keras can
        # have it both as input and as output.
        new = [tensor for tensor in ends if id(tensor) not in known]
        starts, values = zip(*known.values(), strict=True)
        answers = keras.Model(list(starts), new)(list(values), training=False)
        made = {id(t): (t, x) for t, x in zip(new, keras.tree.flatten(answers), strict=True)}
        known = {id(tensor): (known | made)[id(tensor)] for tensor in ends}
    assert relative_difference(known[id(model.output)][1], expected) < 1e-5


def test_a_cut_in_two_composes_to_the_whole(network):
    row, built, model, images, expected = network
    blocks = block_names(built.layers)
    middle = {blocks[len(blocks) // 2]}
    for block in middle | {blocks[0], blocks[-2]} if FULL and row.name in FAMILIES else middle:
        plan = plan_freeze(built.layers, f"until={block}")
        assert plan.cut == block
        prefix, suffix = split_at(model, cut_of(model, plan))
        features = prefix(images, training=False)
        assert relative_difference(suffix(features, training=False), expected) < 1e-5, block
        swapped = keras.tree.map_structure(lambda x: x[::-1], features)
        shuffled = suffix(swapped, training=False)
        assert relative_difference(shuffled, expected) > 1e-4, f"{block}: cut off from the image"


def test_a_plan_is_applied_as_it_says(network):
    _row, built, model, _, _ = network
    block = block_names(built.layers)[len(block_names(built.layers)) // 2]
    plan = plan_freeze(built.layers, f"until={block}")
    apply_plan(model, plan)
    for layer in built.layers:
        trained = layer.name not in plan.frozen and not layer.batchnorm
        assert model.get_layer(layer.name).trainable == trained, layer.name
    apply_plan(model, plan_freeze(built.layers, "none", "train"))
    assert all(model.get_layer(layer.name).trainable for layer in built.layers)


def test_the_row_is_found_again(network):
    row, _, model, _, _ = network
    assert find_row(model) is row


DROPPED_IN = ("MobileNetV2", "EfficientNetB0", "EfficientNetLite0", "ResNet50V2")
"""Rows with preprocessing of each kind, and the one that Keras lacks."""


@pytest.mark.parametrize("network", some_rows(DROPPED_IN), indirect=True)
def test_the_drop_in_is_keras_own(network):
    """With Keras's own arguments only: the same layers, and on the same weights the same answer."""
    row, built, model, images, features = network
    weights = model.get_weights()
    shape = (row.min_size, row.min_size, 3)
    arguments = {"include_top": False, "weights": None, "input_shape": shape}
    keras.backend.clear_session()  # names are counted anew
    theirs = getattr(importlib.import_module(row.constructor.split(":")[0]), row.name)(**arguments)
    ours = getattr(tlkit.applications, row.name)(**arguments)
    assert ours.name == theirs.name
    assert [type(x) for x in ours.layers] == [type(x) for x in theirs.layers]
    assert [x.name for x in built.layers[1:]] == [x.name for x in theirs.layers[1:]]
    # Behind the preprocessing, which is in the graph once, stands Keras's own application.
    entering = model.get_layer(built.layers[1].name).input
    if row.preprocessing != "inside":
        images = keras.Model(model.input, entering)(images)
    for copy in (theirs, ours):
        copy.set_weights(weights)
        assert relative_difference(copy(images, training=False), features) < 1e-5


SAVED = ("MobileNetV2", "EfficientNetLite0", "ConvNeXtTiny")
"""Rows whose layers and preprocessing are all there are, with those in test_portable.py."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder for the saved networks, loaded by one process that cannot import tlkit."""
    return tmp_path_factory.mktemp("saved")


@pytest.mark.parametrize("network", some_rows(SAVED), indirect=True)
def test_it_is_saved(network, saved):
    row, _, model, images, features = network
    if row.name not in FAMILIES:
        pytest.skip("saved once for a family, the largest would take a gigabyte each")
    model.save(saved / f"{row.name}.keras")
    np.savez(saved / f"{row.name}.npz", images=images, features=features)
    assert keras.models.load_model(saved / f"{row.name}.keras", compile=False)


PLAIN = """
import sys
sys.modules["tlkit"] = None
from pathlib import Path
import keras, numpy as np
for file in sorted(Path(sys.argv[1]).glob("*.keras")):
    data = np.load(file.with_suffix(".npz"))
    got = np.asarray(keras.models.load_model(file)(data["images"], training=False))
    print(file.stem, np.abs(got - data["features"]).max() / np.abs(data["features"]).max())
"""


@pytest.mark.full
def test_saved_networks_answer_the_same_in_plain_keras(saved):
    files = sorted(file.stem for file in saved.glob("*.keras"))
    if not files:
        pytest.skip("nothing was saved: this test follows test_it_is_saved")
    command = [sys.executable, "-c", PLAIN, str(saved)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    differences = {name: float(x) for name, x in (line.split() for line in lines if line)}
    assert sorted(differences) == files
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize("name", some_rows({"MobileNet", "EfficientNetB0", "VGG16"}))
def test_it_builds_at_its_default_size(name):
    build.cache_clear()
    keras.backend.clear_session()
    gc.collect()
    row = CATALOG[name]
    built = build_backbone(name, row.default_size, "none")
    assert sum(layer.parameters for layer in built.layers) == row.parameters
    sides = built.features.shape[1:3]
    assert sides[0] == sides[1]
    assert 5 <= sides[0] <= 20  # a feature map that a head can pool


@pytest.mark.parametrize("name", CATALOG)
def test_an_image_below_the_minimum_is_refused(name):
    smallest = CATALOG[name].min_size
    with pytest.raises(BackboneError, match=rf"too small for {name}.*{smallest} pixels"):
        build_backbone(name, smallest - 1, "none")


@pytest.mark.parametrize("name", [n for n in CATALOG if n != "EfficientNetLite0"])
def test_family_arguments_are_those_of_keras(name):
    row = CATALOG[name]
    own = inspect.signature(getattr(keras.applications, name)).parameters
    assert {*row.arguments, *row.fixed} <= set(own)


def test_alpha_is_of_those_that_have_it():
    with pytest.raises(BackboneError, match="ResNet50: has no width multiplier"):
        build_backbone("ResNet50", 48, "none", alpha=0.5)
    for name in ("MobileNet", "MobileNetV2"):
        narrow = build_backbone(name, 48, "none", alpha=0.5)
        assert sum(layer.parameters for layer in narrow.layers) < CATALOG[name].parameters / 2


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BackboneError, match="Did you mean 'ResNet50V2'"):
        lookup("Resnet50v3")
