"""The drop-in functions: Keras's meaning, what tlkit adds, and what is refused how."""

import importlib
import inspect
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import FAMILIES, SHARED, needs_shared, shared_env

import tlkit
from tlkit.applications import MODULES, MobileNet, MobileNetV2, MobileNetV3Small, NASNetMobile
from tlkit.backbones.build import preprocess
from tlkit.backbones.catalog import CATALOG
from tlkit.errors import BackboneError, FreezeError, SpecError, WeightsError

pytestmark = pytest.mark.filterwarnings("ignore:This model usually expects 1 or 3")

SMALL = {"input_shape": (32, 32, 3), "weights": None}
GREY = keras.Input((32, 32, 1))
CHANNELS = {  # channels of the feature map: Keras's own tests of its applications
    "MobileNet": 1024,
    "MobileNetV2": 1280,
    "MobileNetV3Small": 576,
    "EfficientNetB0": 1280,
    "EfficientNetV2B0": 1280,
    "VGG16": 512,
    "ResNet50": 2048,
    "ResNet50V2": 2048,
    "DenseNet121": 1024,
    "InceptionV3": 2048,
    "InceptionResNetV2": 1536,
    "Xception": 2048,
    "NASNetMobile": 1056,
    "ConvNeXtTiny": 768,
}
OF_KERAS = [name for name in CATALOG if name != "EfficientNetLite0"]


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.parametrize("name", OF_KERAS)
def test_the_signature_begins_with_that_of_keras(name):
    own = inspect.signature(getattr(keras.applications, name)).parameters
    ours = inspect.signature(getattr(tlkit.applications, name)).parameters
    assert list(ours.values())[: len(own)] == list(own.values())
    added = {"freeze", "batchnorm", "head", "include_preprocessing"}
    assert set(ours) - set(own) == added - set(own)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "efficientnet_lite"])
def test_the_modules_are_those_of_keras(module):
    ours = importlib.import_module(f"tlkit.applications.{module}")
    theirs = importlib.import_module(f"keras.applications.{module}")
    for name in dir(theirs):
        if not name.startswith("_"):
            assert callable(getattr(ours, name)), name


def test_importing_the_package_imports_no_keras():
    code = "import sys, tlkit.applications; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_application_names_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean 'MobileNetV2'"):
        _ = tlkit.applications.MobilenetV2


@pytest.mark.parametrize("preprocessing", [False, True])
def test_a_model_without_weights_is_keras_own_top_included(preprocessing):
    ours = MobileNetV2(classes=7, include_preprocessing=preprocessing, **SMALL)
    theirs = keras.applications.MobileNetV2(classes=7, **SMALL)
    assert type(ours) is type(theirs)
    assert ours.name == theirs.name
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    x = keras.applications.mobilenet_v2.preprocess_input(images.copy())
    np.testing.assert_allclose(ours(images if preprocessing else x), theirs(x), rtol=1e-5)


FULL_ONLY = [pytest.param(name, marks=pytest.mark.full) for name in ("DenseNet121", "ResNet50V2")]


@pytest.mark.parametrize("name", ["VGG16", *FULL_ONLY])
def test_pixels_go_in_where_preprocessing_is_included(name):
    build = getattr(tlkit.applications, name)
    module = importlib.import_module(build.__module__)
    model = build(include_top=False, include_preprocessing=True, **SMALL)
    plain = build(include_top=False, **SMALL)
    plain.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    expected = np.asarray(plain(module.preprocess_input(images.copy())))
    got = np.asarray(model(images))
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


def test_the_size_stays_free_without_a_top():
    model = MobileNet(include_top=False, weights=None, include_preprocessing=True)
    assert model.input_shape == (None, None, None, 3)
    assert MobileNetV3Small(weights=None).input_shape == (None, None, None, 3)


LARGE = ("NASNetMobile", "InceptionResNetV2")
SMALLER = [n for n in FAMILIES if n in OF_KERAS and n not in LARGE]


@pytest.mark.parametrize(
    "name", [n if n in SMALLER else pytest.param(n, marks=pytest.mark.full) for n in OF_KERAS]
)
def test_any_number_of_channels_and_any_size_as_keras_takes_them(name):
    ours = getattr(tlkit.applications, name)(
        include_top=False, weights=None, input_shape=(None, None, 4)
    )
    assert ours.input_shape == (None, None, None, 4)
    assert ours.output_shape == (None, None, None, CHANNELS.get(name, ours.output_shape[-1]))
    assert ours.output_shape[-1] is not None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MobileNet", {"input_shape": (None, None, 1)}),
        ("MobileNet", {"input_shape": [40, 33, 7], "pooling": "max"}),
        ("MobileNet", {"input_shape": (np.int64(32), 32, 2), "include_top": True}),
        ("MobileNetV3Small", {"input_shape": (None, None, 1)}),
        ("MobileNetV3Small", {"input_shape": (64, 64, 4), "include_preprocessing": False}),
        ("MobileNetV3Small", {"input_shape": (64, 64, 1), "include_top": True}),
        ("EfficientNetV2B0", {"input_shape": (None, None, 1)}),
        ("ConvNeXtTiny", {"input_shape": (None, None, 1), "pooling": "avg"}),
        *(
            pytest.param("NASNetMobile", {"input_shape": shape}, marks=pytest.mark.full)
            for shape in (None, (None, None, 1))
        ),
        ("MobileNetV2", {"input_shape": None, "pooling": "max"}),
        ("MobileNetV2", {"include_top": True, "classifier_activation": None}),
        ("MobileNetV2", {"include_top": True, "classes": 3, "input_shape": (32, 32, 1)}),
    ],
)
def test_shapes_and_weights_are_those_of_keras(name, arguments):
    asked = {"include_top": False, "weights": None, **arguments}
    ours = getattr(tlkit.applications, name)(**asked)
    theirs = getattr(keras.applications, name)(**asked)
    assert ours.input_shape == theirs.input_shape
    assert ours.output_shape == theirs.output_shape
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    if asked["include_top"]:
        activation = asked.get("classifier_activation", "softmax") or "linear"
        assert ours.layers[-1].activation.__name__ == activation


def test_another_head_and_freezing_go_with_any_number_of_channels():
    model = MobileNet(
        weights=None, input_shape=(32, 32, 5), classes=2, head={"hidden": [4]}, freeze="last=1"
    )
    assert model(np.zeros((1, 32, 32, 5))).shape == (1, 2)
    assert not model.get_layer("conv_pw_12").trainable
    assert model.get_layer("conv_pw_13").trainable
    # The application's own preprocessing goes with every number of channels too.
    model = MobileNetV3Small(weights=None, input_shape=(32, 32, 1), classes=2, head={})
    assert model(np.zeros((1, 32, 32, 1))).shape == (1, 2)


def test_images_may_have_their_channels_first(channels_first):
    model = MobileNetV2(include_top=False, weights=None, input_shape=(4, None, None))
    assert model.output_shape == (None, 1280, None, None)
    assert MobileNet(include_top=False, weights=None, pooling="avg").output_shape == (None, 1024)
    model = MobileNet(weights=None, classes=3, head={}, include_preprocessing=True)
    assert model.input_shape == (None, 3, 224, 224)
    assert model.output_shape == (None, 3)
    with pytest.raises(BackboneError, match=r"channels, height, width.*\(3, 224, 224\)"):
        MobileNet(weights=None, input_shape=(32, 32))
    with pytest.raises(BackboneError, match="RGB is wanted"):
        MobileNet(weights=None, input_shape=(4, 32, 32), include_preprocessing=True)


@pytest.mark.parametrize("name", ["VGG16", "DenseNet121"])
def test_preprocessing_knows_where_the_channels_are(name, channels_first):
    build = getattr(tlkit.applications, name)
    module = importlib.import_module(build.__module__)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 9)).astype("float32")
    inputs = keras.Input((3, 9, 9))
    ours = keras.Model(inputs, preprocess(inputs, CATALOG[name].preprocessing))
    np.testing.assert_allclose(ours(images), module.preprocess_input(images.copy()), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"input_shape": (31, 31, 3)}, ValueError),
        ({"input_shape": (None, None, 3)}, ValueError),
        ({"input_shape": (32, 32)}, ValueError),
        ({"weights": "nowhere.h5"}, ValueError),
        ({"weights": "imagenet", "input_shape": (96, 96, 4)}, ValueError),
        ({"weights": "imagenet", "classifier_activation": "relu"}, ValueError),
        ({"alfa": 1}, TypeError),
    ],
)
def test_what_keras_refuses_is_refused_with_keras_own_class_of_error(arguments, kind):
    for applications in (keras.applications, tlkit.applications):
        with pytest.raises(kind):
            applications.MobileNetV2(**{**SMALL, **arguments})


def test_keras_own_input_tensor_is_taken():
    image = keras.Input((48, 48, 3))
    model = MobileNetV2(include_top=False, weights=None, input_tensor=image * 2.0)
    assert model.inputs[0] is image
    model = MobileNet(
        include_top=False, weights=None, input_tensor=image, include_preprocessing=True
    )
    assert model.inputs[0] is image


def test_a_head_replaces_the_top():
    model = MobileNet(
        classes=4, head={"hidden": [8], "pooling": "max"}, classifier_activation=None, **SMALL
    )
    assert [x.name for x in model.layers[-5:]] == [
        "head_pool",
        "head_hidden_1",
        "head_hidden_1_relu",
        "head_dropout",
        "predictions",
    ]
    assert isinstance(model.get_layer("head_pool"), keras.layers.GlobalMaxPooling2D)
    assert model.output_shape == (None, 4)
    assert model.get_layer("predictions").activation is keras.activations.linear


def test_freeze_and_batchnorm_are_applied():
    model = MobileNet(classes=4, freeze="until=block_12", batchnorm="train", **SMALL)
    assert not model.get_layer("conv_pw_12").trainable
    assert model.get_layer("conv_pw_13_bn").trainable
    model = MobileNet(classes=4, batchnorm="frozen", **SMALL)
    assert model.get_layer("conv_pw_12").trainable
    assert not model.get_layer("conv_pw_13_bn").trainable
    model = MobileNet(classes=4, **SMALL)
    assert all(layer.trainable for layer in model.layers)


def test_the_name_is_a_name_only():
    model = tlkit.applications.EfficientNetV2B0(include_top=False, name="mine", **SMALL)
    assert model.name == "mine"
    # Keras takes the preprocessing of the S, M and L variants for any name without "-b".
    assert {type(x).__name__ for x in model.layers} >= {"Rescaling", "Normalization"}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"alfa": 0.5}, BackboneError, "unknown argument. Did you mean 'alpha'"),
        ({"input_shape": (31, 32, 3)}, BackboneError, "too small for MobileNetV2. .*32 pixels"),
        ({"input_shape": (32, 32)}, BackboneError, "height, width, channels.*Received: .32, 32"),
        ({"input_shape": 32}, BackboneError, "height, width, channels.*Received: 32"),
        ({"input_shape": (32, None, 3)}, BackboneError, "with a top must be fixed"),
        ({"input_shape": (32, 32, None)}, BackboneError, "number of channels must be fixed"),
        (
            {"input_shape": (96, 96, 1), "weights": "imagenet"},
            BackboneError,
            "RGB is wanted with I",
        ),
        (
            {"input_shape": (96, 96, 4), "include_preprocessing": True},
            BackboneError,
            "RGB is wanted with include_preprocessing=True",
        ),
        (
            {"input_shape": None, "input_tensor": GREY, "include_preprocessing": True},
            BackboneError,
            "input_tensor: RGB is wanted.*Received: .None, 32, 32, 1",
        ),
        ({"weights": "nowhere.h5"}, WeightsError, "no such file.*Received: 'nowhere.h5'"),
        ({"weights": "imagnet"}, WeightsError, "Did you mean 'imagenet'"),
        ({"pooling": "mean"}, BackboneError, "pooling: unknown.*None, 'avg', 'max'"),
        ({"classes": 0}, BackboneError, "1 or more. Received: 0"),
        ({"batchnorm": "freeze"}, BackboneError, "batchnorm: unknown. Did you mean 'frozen'"),
        ({"alpha": 0.3, "weights": "imagenet"}, BackboneError, "no ImageNet weights.*0.35"),
        (
            {"classifier_activation": "relu", "weights": "imagenet"},
            BackboneError,
            "Allowed: 'softmax', None",
        ),
        ({"include_top": False, "head": {}}, BackboneError, "Allowed: include_top=True"),
        ({"head": {"hiden": [3]}}, SpecError, "Did you mean 'hidden'"),
        ({"freeze": "until=block_99"}, FreezeError, "block_9"),
        ({"freeze": "auto"}, FreezeError, "examples=N"),
    ],
)
def test_wrong_arguments_are_refused_in_clear_words(arguments, error, said):
    with pytest.raises(error, match=said):
        MobileNetV2(**{**SMALL, **arguments})


def test_other_families_are_refused_in_clear_words():
    with pytest.raises(BackboneError, match="size of NASNet with ImageNet weights must be fixed"):
        NASNetMobile(include_top=False, input_shape=(None, None, 3))
    with pytest.raises(BackboneError, match=r"alpha .minimalistic.*Allowed: 1.0"):
        MobileNetV3Small(alpha=0.75, minimalistic=True)
    with pytest.raises(BackboneError, match="always has its own"):
        tlkit.applications.EfficientNetB0(include_preprocessing=False)
    with pytest.raises(BackboneError, match=r"too many positional arguments.*Signature: VGG16"):
        tlkit.applications.VGG16(*range(12))


@pytest.mark.full
def test_missing_weights_are_named_with_their_place(tmp_path):
    code = "import tlkit\nfrom tlkit.applications import VGG16\nVGG16(include_top=False)"
    env = {**os.environ, "KERAS_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    said = done.stderr.splitlines()[-1]
    assert "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 is not on disk" in said
    assert str(tmp_path / "models") in said
    assert "https://storage.googleapis.com/" in said


IMAGENET = """
import json, sys
from pathlib import Path
import keras, numpy as np
from tlkit.applications import MobileNetV2
from tlkit.applications.mobilenet_v2 import decode_predictions, preprocess_input

files = sorted(Path(sys.argv[1]).glob("*.JPEG"))[::4]
load = lambda f: keras.utils.img_to_array(keras.utils.load_img(f, target_size=(224, 224)))
images = np.stack([load(f) for f in files])
x = preprocess_input(images.copy())
expected = keras.applications.MobileNetV2().predict(x, verbose=0)
p = MobileNetV2(classes=1000).predict(x, verbose=0)
q = MobileNetV2(classes=1000, include_preprocessing=True).predict(images, verbose=0)
# The index file's hash is that of the official one; the generated one stands in for it.
keras.src.applications.imagenet_utils.CLASS_INDEX = json.loads(Path(sys.argv[2]).read_text())
swapped = MobileNetV2(classes=5, freeze="all", input_shape=(224, 224, 3))
print(json.dumps({
    "difference": float(abs(p - expected).max()),
    "with_preprocessing": float(abs(q - expected).max()),
    "same_top": bool((p.argmax(1) == expected.argmax(1)).all()),
    "wnids": [row[0][0] for row in decode_predictions(p, top=1)],
    "theirs": [row[0][0] for row in
               keras.applications.mobilenet_v2.decode_predictions(expected, top=1)],
    "truth": [f.name.split("_")[0] for f in files],
    "swapped": swapped.output_shape,
    "trainable": [v.path for v in swapped.trainable_variables],
}))
"""


@pytest.mark.full
@needs_shared("data/imagenet100", "keras_home")
def test_predictions_on_imagenet_are_those_of_keras(tmp_path):
    files = sorted((SHARED / "data/imagenet100").glob("*.JPEG"))
    wnids = [file.name.split("_")[0] for file in files]
    # Every tenth class of ImageNet is there; the others get a name that is nobody's.
    index = {str(i): [f"other{i}", f"other{i}"] for i in range(1000)}
    index |= {str(10 * i): [wnid, wnid] for i, wnid in enumerate(wnids)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    done = subprocess.run(
        [sys.executable, "-c", IMAGENET, str(SHARED / "data/imagenet100"),
         str(tmp_path / "index.json")],
        capture_output=True, text=True, env=shared_env(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    got = json.loads(done.stdout.splitlines()[-1])
    assert got["difference"] < 1e-5
    assert got["with_preprocessing"] < 1e-4
    assert got["same_top"]
    assert got["wnids"] == got["theirs"]
    right = np.mean([a == b for a, b in zip(got["wnids"], got["truth"], strict=True)])
    assert right > 0.7  # 89.3% on 1,000 images of which these 25 are part
    assert got["swapped"] == [None, 5]
    assert [path.split("/")[0] for path in got["trainable"]] == ["predictions", "predictions"]


def test_decode_predictions_is_keras_own(tmp_path, monkeypatch):
    from tlkit.applications.mobilenet_v2 import decode_predictions

    module = importlib.import_module(
        keras.applications.imagenet_utils.decode_predictions.__module__
    )
    index = {str(i): [f"n{i:08d}", f"thing_{i}"] for i in range(1000)}
    monkeypatch.setattr(module, "CLASS_INDEX", index)
    p = np.eye(1000, dtype="float32")[[3, 999]]
    assert [row[0][:2] for row in decode_predictions(p, top=2)] == [
        ("n00000003", "thing_3"),
        ("n00000999", "thing_999"),
    ]
    with pytest.raises(ValueError, match="1000"):
        decode_predictions(p[:, :10])
