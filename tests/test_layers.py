"""Freezing as an API: on models of every make, read back, compiled, saved, and Keras's guide."""

import keras
import numpy as np
import pytest

import tlkit
from tlkit.applications import MobileNet, MobileNetV2, Xception
from tlkit.errors import BackboneError, FreezeError
from tlkit.planning.freezing import LayerInfo, cuts_through

SMALL = {"input_shape": (32, 32, 3), "weights": None}


@pytest.fixture
def model():
    keras.backend.clear_session()
    return MobileNet(classes=3, alpha=0.25, head={}, **SMALL)


def trained(model):
    return {layer.name for layer in model.layers if layer.trainable and layer.weights}


def test_what_is_frozen_is_what_the_rule_says(model):
    plan = tlkit.freeze(model, "until=block_12")
    assert plan.cut == "block_12"
    assert trained(model) == {"conv_dw_13", "conv_pw_13", "predictions"}
    tlkit.freeze(model, "all")
    assert trained(model) == {"predictions"}
    tlkit.unfreeze(model)
    assert "conv1" in trained(model)
    assert not any("bn" in name for name in trained(model))
    tlkit.unfreeze(model, "train")
    assert "conv1_bn" in trained(model)


def test_affine_trains_scale_and_offset_alone(model):
    tlkit.unfreeze(model, "affine")
    norm = model.get_layer("conv1_bn")
    assert [v for v in (norm.gamma, norm.beta) if any(v is t for t in model.trainable_variables)]
    assert not norm.trainable


@pytest.mark.parametrize("batchnorm", ["frozen", "affine", "train"])
@pytest.mark.parametrize("rule", ["all", "until=block_12", "layers=0:3", "none"])
def test_a_plan_reads_back_as_it_was_made(model, rule, batchnorm):
    with pytest.warns(UserWarning, match="lies inside") if "layers" in rule else no_warning():
        plan = tlkit.freeze(model, rule, batchnorm)
    again = tlkit.read_freeze(model)
    assert [row.block for row in again.table()] == [row.block for row in plan.table()]
    assert [row.state == "frozen" for row in again.table()] == [
        row.state == "frozen" for row in plan.table()
    ]
    if rule != "all":
        assert again.batchnorm == batchnorm


def no_warning():
    import contextlib

    return contextlib.nullcontext()


def test_a_plan_prints_as_a_table(model):
    lines = str(tlkit.freeze(model, "until=block_12", "affine")).splitlines()
    assert lines[0] == "freeze until=block_12"
    assert lines[1].split() == ["block", "layers", "parameters", "state", "BatchNorm"]
    assert lines[2].split() == ["stem", "4", "248", "frozen", "frozen"]
    assert lines[-1].split()[0] == "block_13"
    assert lines[-1].split()[-2:] == ["trained", "affine"]


def test_auto_goes_by_the_number_of_examples(model):
    assert tlkit.freeze(model, "auto", examples=100).rule == "all"
    assert tlkit.freeze(model, "auto", examples=5_000).rule == "last=4"
    assert tlkit.freeze(model, "auto", examples=50_000).rule == "none"
    with pytest.raises(FreezeError, match="examples=N"):
        tlkit.freeze(model, "auto")


def test_an_index_inside_a_block_is_allowed_with_a_warning(model):
    index = [layer.name for layer in model.layers].index("conv_pw_3")
    with pytest.warns(UserWarning, match="lies inside block_3") as caught:
        tlkit.freeze(model, f"layers=0:{index}")
    said = str(caught[0].message)
    assert f"index {index} lies inside block_3" in said
    assert "until=block_2 (index 17) and until=block_3 (index 23)" in said
    assert [layer.name for layer in model.layers][16:23:6] == ["conv_pw_2_relu", "conv_pw_3_relu"]
    assert not model.get_layer("conv_dw_3").trainable
    assert model.get_layer("conv_pw_3").trainable


def test_an_index_between_blocks_needs_no_warning():
    layers = [LayerInfo("a", "stem", 1), LayerInfo("b", "top", 1)]
    assert cuts_through(layers, "layers=0:1") == []
    assert cuts_through(layers, "layers=-1:") == []
    assert cuts_through(layers, "all") == []


def test_a_model_that_is_compiled_refuses_to_fit_until_compiled_again(model):
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")
    labels = np.array([0, 1, 2, 0])
    tlkit.freeze(model, "all")
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    tlkit.freeze(model, "all")  # nothing changes: nothing to compile
    model.fit(images, labels, verbose=0)
    with pytest.warns(UserWarning, match="compile it again"):
        tlkit.unfreeze(model, "train")  # a random net passes a signal on batch statistics only
    with pytest.raises(ValueError, match="must call `compile"):
        model.fit(images, labels, verbose=0)
    before = model.get_layer("conv_pw_13").kernel.numpy()
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    assert np.abs(model.get_layer("conv_pw_13").kernel.numpy() - before).max() > 0


def test_a_saved_model_is_known_again(model, tmp_path):
    model.save(tmp_path / "m.keras")
    keras.backend.clear_session()
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert tlkit.freeze(loaded, "until=block_12").cut == "block_12"


def test_a_model_with_numbered_layers_is_known_after_others_and_saved(tmp_path):
    keras.backend.clear_session()
    arguments = {"include_top": False, "weights": None, "input_shape": (75, 75, 3)}
    from tlkit.applications import InceptionV3

    first = InceptionV3(**arguments)
    second = InceptionV3(**arguments)  # its layers' numbers go on where the first's end
    assert second.layers[1].name != first.layers[1].name
    expected = [row.layers for row in tlkit.freeze(first, "last=2").table()]
    assert [row.layers for row in tlkit.freeze(second, "last=2").table()] == expected
    second.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [row.layers for row in tlkit.freeze(loaded, "last=2").table()] == expected


def test_keras_own_model_with_a_top_of_ones_own():
    keras.backend.clear_session()
    base = keras.applications.MobileNetV2(include_top=False, alpha=0.35, **SMALL)
    x = keras.layers.Flatten()(base.output)
    model = keras.Model(base.input, keras.layers.Dense(2, name="own")(x))
    base.trainable = False
    tlkit.freeze(model, "until=block_16")
    assert trained(model) == {"Conv_1", "own"}


def test_an_unknown_model_is_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="mine")
    with pytest.raises(BackboneError, match=r"no application of the catalog .* 'mine'"):
        tlkit.freeze(model)


def statistics(model):
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    return [v.numpy() for layer in norms for v in (layer.moving_mean, layer.moving_variance)]


@pytest.mark.full
def test_the_guide_of_keras_runs_and_leaves_batchnorm_statistics_alone():
    """https://keras.io/guides/transfer_learning/, its end-to-end example with other numbers."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 80, 80, 3)).astype("float32")
    labels = rng.integers(0, 2, 8)

    base_model = Xception(weights=None, input_shape=(80, 80, 3), include_top=False)
    base_model.trainable = False
    inputs = keras.Input(shape=(80, 80, 3))
    x = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
    x = base_model(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(1)(x)
    model = keras.Model(inputs, outputs)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=[keras.metrics.BinaryAccuracy()])
    before = statistics(base_model)
    kernel = base_model.get_layer("block14_sepconv2").get_weights()[1]
    model.fit(images, labels, epochs=1, verbose=0)
    np.testing.assert_array_equal(base_model.get_layer("block14_sepconv2").get_weights()[1], kernel)

    with pytest.warns(UserWarning, match="compile it again"):
        tlkit.unfreeze(model)  # in the guide: base_model.trainable = True
    with pytest.raises(ValueError, match="must call `compile"):
        model.fit(images, labels, verbose=0)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=[keras.metrics.BinaryAccuracy()])
    model.fit(images, labels, epochs=1, verbose=0)
    assert np.abs(base_model.get_layer("block14_sepconv2").get_weights()[1] - kernel).max() > 0
    for now, then in zip(statistics(base_model), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.full
def test_the_guide_flat_with_the_drop_ins_own_arguments():
    """The same in one call: base frozen, then unfrozen, BatchNorm statistics untouched."""
    keras.backend.clear_session()
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    labels = np.arange(8) % 2
    model = MobileNetV2(
        classes=2, alpha=0.35, head={}, freeze="all", include_preprocessing=True, **SMALL
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    before = statistics(model)
    model.fit(images, labels, verbose=0)
    with pytest.warns(UserWarning, match="compile it again"):
        tlkit.unfreeze(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)
    for now, then in zip(statistics(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
