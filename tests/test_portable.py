"""The files that a run saves: read by every Keras from 3.4 on, not by the newest alone."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tlkit.backbones.build import build_backbone
from tlkit.backbones.catalog import CATALOG, lookup
from tlkit.runfolder.portable import LEAST_KERAS, portable, save_portable
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.pooled import attach
from tlkit.tasks.registry import TASKS

# What the constructors of Keras 3.4.1 take, besides name, trainable, dtype; read from its source.
INITIALISED = "kernel_initializer kernel_regularizer kernel_constraint "
BIASED = "use_bias bias_initializer bias_regularizer bias_constraint activation "
CONVOLVED = "kernel_size strides padding data_format dilation_rate activity_regularizer "
DEPTHWISE = "depthwise_initializer depthwise_regularizer depthwise_constraint depth_multiplier "
NORMALISED = (
    "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer "
    "gamma_regularizer beta_constraint gamma_constraint "
)
POOLED = "pool_size strides padding data_format"
KNOWN = {
    "Activation": "activation",
    "Add": "",
    "AveragePooling2D": POOLED,
    "BatchNormalization": NORMALISED
    + "momentum moving_mean_initializer moving_variance_initializer synchronized",
    "Concatenate": "axis",
    "Conv2D": "filters groups " + INITIALISED + BIASED + CONVOLVED,
    "Cropping2D": "cropping data_format",
    "Dense": "units activity_regularizer lora_rank " + INITIALISED + BIASED,
    "DepthwiseConv2D": DEPTHWISE + BIASED + CONVOLVED,
    "Dropout": "rate seed noise_shape",
    "GlobalAveragePooling2D": "data_format keepdims",
    "GlobalMaxPooling2D": "data_format keepdims",
    "Identity": "",
    "InputLayer": "batch_shape sparse optional",
    "LayerNormalization": NORMALISED + "rms_scaling",
    "MaxPooling2D": POOLED,
    "Multiply": "",
    "Normalization": "axis invert mean variance",
    "PReLU": "alpha_initializer alpha_regularizer alpha_constraint shared_axes",
    "ReLU": "max_value negative_slope threshold",
    "Rescaling": "scale offset",
    "Reshape": "target_shape",
    "SeparableConv2D": "filters pointwise_initializer pointwise_regularizer pointwise_constraint "
    + (DEPTHWISE + BIASED + CONVOLVED),
    "ZeroPadding2D": "padding data_format",
    "GlorotUniform": "seed",
    "GlorotNormal": "seed",
    "HeNormal": "seed",
    "HeUniform": "seed",
    "Ones": "",
    "Zeros": "",
    "Constant": "value",
    "VarianceScaling": "scale mode distribution seed",
    "L2": "l2",
    # Of the applications, and operations whose name it takes or does not take.
    "LayerScale": "init_values projection_dim",
    "CustomScaleLayer": "scale",
    "Cast": "dtype -name",
    "Maximum": "",
    "Power": "",
    "GetItem": "",
    "Matmul": "",
}
CONTAINERS = (
    *("Functional", "Sequential", "DTypePolicy"),
    *("__keras_tensor__", "__slice__", "__ellipsis__", "__tuple__"),
)


def objects(config):
    """Yield every serialised object in `config`: its class and its arguments."""
    if isinstance(config, dict):
        if "class_name" in config and isinstance(config.get("config"), dict):
            yield config["class_name"], config["config"]
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from objects(value)


def read_config(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return json.loads(file.read("config.json"))


def check_known(config):
    for name, arguments in objects(config):
        if name in CONTAINERS or (name in ("Add", "Multiply") and set(arguments) == {"name"}):
            continue
        assert name in KNOWN, f"{name}: not looked up yet in Keras {LEAST_KERAS}"
        known = set(KNOWN[name].split())
        known |= {"name", "trainable", "dtype"} if "-name" not in known else set()
        assert set(arguments) <= known, name


ALWAYS = ("MobileNet", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny")
"""Rows that have, with the heads, most classes of layers; a run's own files are looked at too."""


@pytest.mark.parametrize(
    "name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.full) for n in CATALOG]
)
def test_an_old_keras_knows_every_argument_in_the_file(name, tmp_path):
    keras.backend.clear_session()
    built = build_backbone(name, lookup(name).min_size, "none")
    model = attach(built.inputs, built.features, TASKS["classification"](("a", "b")), HeadSpec())
    save_portable(model, tmp_path / "m.keras")
    check_known(read_config(tmp_path / "m.keras"))
    assert [file.name for file in tmp_path.iterdir()] == ["m.keras"]


@pytest.mark.parametrize(
    ("head", "policy"),
    [
        ({"pooling": "gem"}, "mixed_bfloat16"),
        ({"pooling": "concat", "hidden": [4], "batchnorm": True, "activation": "prelu"}, "float32"),
        ({"pooling": "max", "hidden": [4], "l2": 0.1, "initializer": "he_normal"}, "float32"),
    ],
)
def test_a_saved_model_is_the_same_model(head, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    built = build_backbone("MobileNet", 32, "none", 0.25)
    keras.config.set_dtype_policy("float32")
    model = attach(
        built.inputs, built.features, TASKS["classification"](("a", "b")), HeadSpec(**head)
    )
    save_portable(model, tmp_path / "m.keras")
    check_known(read_config(tmp_path / "m.keras"))
    loaded = keras.models.load_model(tmp_path / "m.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert [x.get_config() for x in loaded.layers] == [x.get_config() for x in model.layers]


def test_what_is_not_at_its_default_stays():
    def after(layer):
        return portable(keras.saving.serialize_keras_object(layer))["config"]

    norm = after(keras.layers.BatchNormalization(renorm=True))
    assert norm["renorm"] is True
    assert "renorm_momentum" not in norm
    assert "antialias" not in after(keras.layers.Resizing(2, 2))
    assert after(keras.layers.Resizing(2, 2, antialias=True))["antialias"] is True
    kernel = after(keras.layers.Conv2D(1, 3, kernel_initializer="he_normal"))["kernel_initializer"]
    assert kernel["config"] == {"seed": None}
    assert "lora_alpha" not in after(keras.layers.Dense(2))
    # A class of one's own, whatever it is called, is left alone.
    own = {"module": "mine", "class_name": "Dense", "config": {"quantization_config": None}}
    assert portable(own) == own


def test_the_files_of_a_run_are_portable(tiny_run):
    for path in (tiny_run.files.model, tiny_run.files.best, tiny_run.files.last):
        check_known(read_config(path))
    about = json.loads((tiny_run.folder / "env.json").read_text())
    assert about["keras_least"] == LEAST_KERAS
