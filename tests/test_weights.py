"""Weights: which file is wanted, the ways into Keras's folder, and what is said without."""

import dataclasses
import hashlib
import importlib
import shutil
import warnings

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.backbones import weights as module
from tlkit.backbones.build import build_backbone
from tlkit.backbones.catalog import CATALOG, WeightsFile
from tlkit.backbones.weights import fetch, file_for, is_whole, official
from tlkit.cli.main import main
from tlkit.errors import WeightsError

CONTENT = b"weights"
FILE = WeightsFile("a.h5", "https://nowhere.invalid/a.h5", True, hashlib.md5(CONTENT).hexdigest())
NAMES = [name for name in CATALOG if name != "EfficientNetLite0"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TLKIT_WEIGHTS", raising=False)
    return tmp_path / "home/models"


ALWAYS = ("MobileNetV2", "EfficientNetB0", "ResNet50V2", "DenseNet121")
ONE_OF_EACH = (
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "ResNet50V2",
    "DenseNet121",
    "Xception",
    "InceptionV3",
    "ConvNeXtTiny",
)
FILE_UTILS = importlib.import_module(keras.utils.get_file.__module__)


class Asked(BaseException):
    """Ends a constructor where it would read its weights; no error that tlkit catches."""


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")  # Keras, of its own default
@pytest.mark.parametrize("top", [pytest.param(True, marks=pytest.mark.full), False])
@pytest.mark.parametrize(
    "name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.full) for n in ONE_OF_EACH]
)
def test_the_catalog_names_the_file_that_keras_asks_for(name, top, monkeypatch):
    def get_file(fname, origin=None, file_hash=None, **_):
        raise Asked(fname, origin, file_hash)

    monkeypatch.setattr(FILE_UTILS, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, name)(include_top=top)
    file = file_for(CATALOG[name], {"include_top": top})
    assert (file.name, file.url, file.hash) == asked.value.args


def test_the_file_follows_size_and_width():
    arguments = {"include_top": False, "input_shape": (160, 160, 3), "alpha": 0.5}
    assert file_for(CATALOG["MobileNet"], arguments).name == "mobilenet_5_0_160_tf_no_top.h5"
    arguments["input_shape"] = (161, 161, 3)
    assert file_for(CATALOG["MobileNet"], arguments).name == "mobilenet_5_0_224_tf_no_top.h5"


def test_every_row_has_files_with_and_without_top():
    for name in NAMES:
        files = CATALOG[name].weights
        assert {file.top for file in files} == {True, False}
        assert len({file.name for file in files}) == len(files)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_mirror_is_a_folder_or_a_url(home, tmp_path, monkeypatch, scheme):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.h5").write_bytes(CONTENT)
    monkeypatch.setenv("TLKIT_WEIGHTS", f"{scheme}{tmp_path / 'mirror'}")
    assert fetch(FILE) == home / "a.h5"
    assert is_whole(home / "a.h5", FILE)
    assert [path.name for path in home.iterdir()] == ["a.h5"]


def test_a_file_with_another_hash_is_refused_and_leaves_nothing(home, tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"something else")
    monkeypatch.setenv("TLKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="not the file that Keras states"):
        fetch(FILE)
    assert list(home.iterdir()) == []


def test_what_is_missing_is_named_with_place_url_and_what_is_there(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_WEIGHTS", str(tmp_path))
    home.mkdir(parents=True)
    (home / "vgg16_weights_tf_dim_ordering_tf_kernels.h5").touch()
    with pytest.raises(WeightsError) as error:
        fetch(FILE)
    for part in ("a.h5", FILE.url, str(home), "TLKIT_WEIGHTS", "files of: VGG16"):
        assert part in str(error.value)


def test_efficientnet_answers_the_same_whichever_way_its_file_came(home, tmp_path, monkeypatch):
    """The trap: by path, Keras leaves out the rescaling that it adds for `imagenet`."""
    keras.backend.clear_session()
    arguments = {"include_top": False, "input_shape": (32, 32, 3)}
    path = tmp_path / "efficientnetb0_notop.h5"
    keras.applications.EfficientNetB0(weights=None, **arguments).save(path)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    row = CATALOG["EfficientNetB0"]
    files = tuple(dataclasses.replace(f, hash=f.hash if f.top else digest) for f in row.weights)
    monkeypatch.setitem(CATALOG, row.name, dataclasses.replace(row, weights=files))
    monkeypatch.setattr(FILE_UTILS, "get_file", lambda name, *_, **__: str(home / name))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / path.name).write_bytes(path.read_bytes())
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")

    def answer(model):
        return np.asarray(model(images, training=False))

    def built(weights):
        made = build_backbone("EfficientNetB0", 32, weights)
        return answer(keras.Model(made.inputs, made.features))

    answers = [built(str(path)), built("imagenet")]
    (home / path.name).unlink()
    monkeypatch.setenv("TLKIT_WEIGHTS", str(mirror))
    answers.append(built("imagenet"))
    for other in answers[1:]:
        np.testing.assert_array_equal(other, answers[0])
    by_path = keras.applications.EfficientNetB0(weights=str(path), **arguments)
    assert np.abs(answer(by_path) - answers[0]).max() > 0, "the test could not tell"
    (tmp_path / "own.h5").write_bytes(b"mine")
    assert official(CATALOG[row.name], tmp_path / "own.h5", top=False) is None
    with pytest.raises(WeightsError, match="does not say which"):
        build_backbone("EfficientNetB0", 32, str(tmp_path / "own.h5"))


def test_the_commands_list_fetch_and_verify(home, tmp_path, monkeypatch):
    name = "mobilenet_1_0_224_tf_no_top.h5"
    (tmp_path / name).write_bytes(CONTENT)
    monkeypatch.setenv("TLKIT_WEIGHTS", str(tmp_path))
    call = CliRunner().invoke
    assert "no weights" in call(main, ["weights", "list"]).output
    assert call(main, ["weights", "fetch", "MobileNet"]).exit_code == 0
    assert (home / name).read_bytes() == CONTENT
    assert f"{name}: MobileNet" in call(main, ["weights", "list"]).output
    assert "Keras states no hash" in call(main, ["weights", "verify"]).output
    (home / "efficientnetb0.h5").write_bytes(CONTENT)
    result = call(main, ["weights", "verify"])
    assert result.exit_code == 2
    assert "efficientnetb0.h5" in result.output
    assert call(main, ["weights", "fetch", "nonsense.h5"]).exit_code == 2


def test_models_folder_is_that_of_keras(home):
    assert module.models_folder() == home


@pytest.mark.parametrize(
    ("value", "own"),
    [
        (np.nan, False),
        (np.inf, True),
        pytest.param(np.inf, False, marks=pytest.mark.full),
        pytest.param(np.nan, True, marks=pytest.mark.full),
    ],
)
def test_weights_that_are_no_numbers_are_refused(image_folder, tiny_weights, tmp_path, value, own):
    net = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    net.load_weights(tiny_weights)
    kernel = net.get_layer("conv_pw_3").kernel
    values = keras.ops.convert_to_numpy(kernel).copy()
    values[0, 0, 0, 0] = value
    kernel.assign(values)
    path = tmp_path / ("own.keras" if own else "own.weights.h5")
    net.save(path) if own else net.save_weights(path)
    backbone = {"name": str(path), "preprocessing": "tf"}
    if not own:
        backbone = {**TINY["backbone"], "weights": str(path)}
    fields = {"backbone": backbone, "image_size": 32, "progress": False}
    with pytest.raises(WeightsError, match=r"conv_pw_3/kernel holds values that are no finite"):
        tlkit.train(image_folder, out=tmp_path / "run", **fields)
    assert not (tmp_path / "run").exists()


def test_a_layer_that_a_file_of_weights_lacks_is_told_in_one_line(
    image_folder, tiny_weights, tmp_path
):
    path = tmp_path / "less.weights.h5"
    shutil.copy(tiny_weights, path)
    with h5py.File(path, "r+") as file:
        del file["layers/batch_normalization_3"]
    words = ["train", image_folder, "--set=backbone.name=MobileNet", "--set=backbone.alpha=0.25"]
    words += [f"--set=backbone.weights={path}", "--image-size=32", "--out", tmp_path / "run"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 2, done.output
    assert f"MobileNet weights {path}: do not fit or cannot be read" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
