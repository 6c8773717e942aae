"""Every row of the catalog against its constructor: sizes, blocks, preprocessing, cuts, saving."""

import functools
import importlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from tlkit.backbones.build import Built, build_backbone
from tlkit.backbones.catalog import CATALOG
from tlkit.errors import BackboneError
from tlkit.freezing import block_names, plan_freeze
from tlkit.heads.classification import Classification
from tlkit.heads.top import PREDICTIONS, attach
from tlkit.parts import HeadSpec
from tlkit.training.prefix import cut_of, split_at

SIZE = 48
ROWS = ("MobileNet", "MobileNetV2", "ResNet50", "VGG16", "EfficientNetB0", "EfficientNetLite0")
TASK = Classification(tuple("abcde"))

PLAIN_KERAS = """
import sys
sys.modules["tlkit"] = None
import keras, numpy as np
folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{folder}/{name}.keras")
    np.save(f"{folder}/{name}.npy", model(images, training=False))
"""


@functools.cache
def smooth_images():
    """Smooth images (8, 48, 48, 3), 0-255: noise makes every network answer alike."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (8, 3, 3, 3)).astype("float32")
    return np.asarray(keras.ops.image.resize(coarse, (SIZE, SIZE), "bilinear"))


@functools.cache
def build(name):
    """Return a row, built, and a model with a linear head that answers logits.

    Random networks give nearly the same probabilities for everything: logits tell them apart.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    built = build_backbone(name, SIZE, "none")
    model = attach(built.inputs, built.features, TASK, HeadSpec())
    model.get_layer(PREDICTIONS).activation = keras.activations.linear
    give_batchnorm_numbers(model)
    return CATALOG[name], built, model


def give_batchnorm_numbers(model):
    """Give BatchNorm the images' own statistics, and a scale and offset of its own.

    The initial numbers 0 and 1 would hide mistakes, and let the answers fade away in depth.
    """
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    rng = np.random.default_rng(2)
    for layer in norms:
        layer.gamma.assign(rng.uniform(0.7, 1.3, layer.gamma.shape))
        layer.beta.assign(rng.uniform(-0.3, 0.3, layer.beta.shape))
        layer.momentum = 0.0
    model(smooth_images(), training=True)
    for layer in norms:
        layer.momentum = 0.99


@pytest.fixture(scope="module")
def images():
    return smooth_images()


@pytest.fixture(scope="module", params=ROWS)
def network(request):
    return build(request.param)


@pytest.fixture(scope="module")
def answers_of_plain_keras(tmp_path_factory, images):
    """What each saved model answers in a process that has Keras and no tlkit."""
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "images.npy", images)
    for name in ROWS:
        build(name)[2].save(folder / f"{name}.keras")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS, str(folder), *ROWS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name: np.load(folder / f"{name}.npy") for name in ROWS}


def relative_difference(got, expected):
    got, expected = np.asarray(got, "float64"), np.asarray(expected, "float64")
    return np.abs(got - expected).max() / np.abs(expected).max()


def reference(row):
    """The application as its own constructor makes it, without anything of ours in front."""
    keras.backend.clear_session()
    module, function = row.constructor.split(":")
    constructor = getattr(importlib.import_module(module), function)
    return constructor(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))


def test_parameters_are_the_rows(network):
    row, built, _ = network
    assert keras.Model(built.inputs, built.features).count_params() == row.parameters
    assert sum(layer.parameters for layer in built.layers) == row.parameters


def test_layers_are_those_of_the_constructor_in_its_order(network):
    row, built, _ = network
    expected = reference(row).layers
    assert len(built.layers) == len(expected)
    # The first is the input, which has a name of its own.
    assert isinstance(expected[0], keras.layers.InputLayer)
    assert [layer.name for layer in built.layers[1:]] == [layer.name for layer in expected[1:]]
    norms = [isinstance(layer, keras.layers.BatchNormalization) for layer in expected]
    assert [layer.batchnorm for layer in built.layers] == norms
    assert row.batchnorm == any(norms)


def test_every_layer_with_weights_belongs_to_exactly_one_pattern(network):
    row, built, _ = network
    for layer in built.layers:
        matching = [block for block, pattern in row.blocks if re.fullmatch(pattern, layer.name)]
        assert len(matching) <= 1, f"{layer.name} is in {matching}"
        if layer.parameters:
            assert matching == [layer.block], f"{layer.name} has weights and no block of its own"


def test_blocks_are_contiguous_complete_and_in_graph_order(network):
    row, built, _ = network
    sequence = [layer.block for layer in built.layers]
    changes = [b for i, b in enumerate(sequence) if i == 0 or sequence[i - 1] != b]
    assert changes == [block for block, _ in row.blocks], "a block is empty, split or out of order"
    for block in changes:
        inside = [layer for layer in built.layers if layer.block == block]
        assert sum(layer.parameters for layer in inside) > 0 or block == "stem"


def preprocessed(built: Built):
    """The tensor that enters the application's first layer."""
    return keras.Model(built.inputs, built.features).get_layer(built.layers[1].name).input


def test_preprocessing_is_in_the_graph_exactly_once(network, images):
    row, built, _ = network
    entering = preprocessed(built)
    if row.preprocessing == "inside":
        assert entering is built.inputs
        return
    if row.preprocessing == "lite":
        expected = (images - 127.0) / 128.0
    else:
        module = {
            "MobileNet": "mobilenet",
            "MobileNetV2": "mobilenet_v2",
            "ResNet50": "resnet",
            "VGG16": "vgg16",
        }[row.name]
        expected = getattr(keras.applications, module).preprocess_input(images.copy())
    got = keras.Model(built.inputs, entering)(images)
    assert relative_difference(got, expected) < 1e-5
    assert relative_difference(got, images) > 0.1, "the test could not tell it from none"


def test_the_application_behind_the_preprocessing_is_keras_own(network, images):
    """Same weights, Keras's own model and preprocessing: the same features."""
    row, built, _ = network
    whole = keras.Model(built.inputs, built.features)
    entering = keras.Model(built.inputs, preprocessed(built))(images)
    own = reference(row)
    own.set_weights(whole.get_weights())
    expected = own(entering, training=False)
    assert relative_difference(whole(images, training=False), expected) < 1e-5


def test_every_block_boundary_cuts_into_two_that_compose(network, images):
    _, built, model = network
    expected = np.asarray(model(images, training=False))
    spread = expected.std(axis=0).max() / np.abs(expected).max()
    assert spread > 1e-3, "the answers do not depend on the picture, so they prove nothing"
    for block in block_names(built.layers):
        plan = plan_freeze(built.layers, f"until={block}")
        assert plan.cut == block
        prefix, suffix = split_at(model, cut_of(model, plan))
        features = prefix(images, training=False)
        assert relative_difference(suffix(features, training=False), expected) < 1e-5, block
        shuffled = suffix(features[::-1], training=False)
        assert relative_difference(shuffled, expected) > 1e-4, block


def test_a_saved_model_answers_the_same_in_plain_keras(network, images, answers_of_plain_keras):
    row, _, model = network
    got = answers_of_plain_keras[row.name]
    assert relative_difference(got, model(images, training=False)) < 1e-5


@pytest.mark.parametrize("name", CATALOG)
def test_a_picture_below_the_minimum_is_refused(name):
    smallest = CATALOG[name].min_size
    with pytest.raises(BackboneError, match=rf"too small for {name}.*{smallest} pixels"):
        build_backbone(name, smallest - 1, "none")


def test_alpha_of_a_backbone_without_it_is_refused():
    with pytest.raises(BackboneError, match="ResNet50: has no width multiplier"):
        build_backbone("ResNet50", SIZE, "none", alpha=0.5)


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_alpha_narrows_the_network(name):
    built = build_backbone(name, SIZE, "none", alpha=0.5)
    assert sum(layer.parameters for layer in built.layers) < CATALOG[name].parameters / 2
