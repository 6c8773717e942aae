"""The Python side: train on folders, arrays and tf.data; what a run knows and does."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, TINY, write_images
from PIL import Image

import tlkit
from tlkit.data.readers.open import image_files
from tlkit.errors import DataError, RunFolderError, SpecError, TlkitError


@pytest.fixture(scope="module")
def arrays(image_folder):
    """Pixels uint8 (36, 24, 20, 3) and labels (36,) of the generated images."""
    files = image_files(image_folder)
    x = np.stack([np.asarray(Image.open(file).resize((20, 24))) for file in files])
    return x, np.array([file.parent.name for file in files])


@pytest.fixture
def train(tiny_weights, tmp_path):
    """`tlkit.train` with the tiny net, frozen, in silence."""

    def run(data, **fields):
        backbone = {**TINY["backbone"], "weights": tiny_weights}
        fields = {**TINY, "backbone": backbone, "regime": "small", "progress": False, **fields}
        return tlkit.train(data, **{"out": tmp_path / "run", **fields})

    return run


# What a run knows


def test_a_run_on_a_folder(tiny_run, image_folder):
    assert tiny_run.finished
    assert tiny_run.labels == CLASSES
    assert tiny_run.spec.data == str(image_folder)
    assert tiny_run.spec.backbone.name == "MobileNet"
    assert tiny_run.plan["phases"][0]["name"] == "head"
    assert tiny_run.metrics == json.loads((tiny_run.folder / "metrics.json").read_text())
    assert str(tiny_run.folder) in repr(tiny_run)


def test_the_model_takes_rgb_and_gives_probabilities(tiny_run, image_folder):
    model = tlkit.open_run(tiny_run.folder).model
    assert isinstance(model, keras.Model)
    assert model.input_shape == (None, 32, 32, 3)
    file = image_files(image_folder)[0]
    p = np.asarray(model(np.asarray(Image.open(file).resize((32, 32)), "float32")[None]))
    assert p.shape == (1, 3)
    assert p.sum() == pytest.approx(1, abs=1e-5)


def test_the_run_that_train_returns_answers_as_the_opened_one(tiny_run, image_folder):
    files = image_files(image_folder)[::7]
    assert tlkit.open_run(tiny_run.folder).predict(files) == tiny_run.predict(files)


# Arrays and tf.data


def test_grey_arrays_with_names_as_labels(train, arrays, tmp_path):
    x, labels = arrays
    grey = x.mean(axis=-1).astype("uint8")
    run = train((grey, labels))
    assert run.labels == CLASSES
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.spec.data == "<arrays>"

    # A batch of grey images is answered as its images are in colour channels.
    rows = run.predict(grey)
    assert len(rows) == 36
    assert rows == run.predict(np.repeat(grey[..., None], 3, axis=-1))
    assert rows[3]["path"] == "array/000003"
    by_id = {row["path"]: row for row in rows}
    test = run.files.read_json("scan.json")["splits"]["test"]
    right = np.mean([by_id[id_]["label"] == labels[int(id_[6:])] for id_ in test])
    assert right == pytest.approx(run.metrics["test"]["accuracy"])

    got = run.evaluate((grey.astype("float32"), labels), progress=False)
    assert got["examples"] == 6
    assert (got["seen_in_training"], got["seen_in_validation"]) == (24, 6)
    with pytest.raises(DataError, match="was trained on arrays; say what to evaluate on"):
        run.evaluate(progress=False)


def test_a_tf_data_set_with_validation_and_test_arrays(train, arrays):
    x, labels = arrays
    y = np.array([CLASSES.index(label) for label in labels])
    parts = [np.arange(36) % 6 == k for k in (4, 5)]
    rest = ~(parts[0] | parts[1])
    dataset = tf.data.Dataset.from_tensor_slices((x[rest].astype("float32"), y[rest])).batch(7)
    val, test = ((x[part], y[part]) for part in parts)
    run = train(dataset, val=val, test=test)
    assert run.labels == ("0", "1", "2")
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.metrics["test"]["accuracy"] > 0.5
    got = run.evaluate(test, raw=True, progress=False)
    assert got["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
    assert got["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-4)


@pytest.mark.full
def test_training_twice_in_a_process_gives_the_same(train, tiny_run, image_folder, tmp_path):
    again = train(image_folder, out=tmp_path / "again")
    first, second = (run.metrics["test"] for run in (tiny_run, again))
    assert second["confusion"] == first["confusion"]
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
    assert [v.path for v in again.model.weights] == [v.path for v in tiny_run.model.weights]


def test_without_out_runs_are_numbered(train, image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "shapes-mobilenet-0001").mkdir(parents=True)
    run = train(image_folder, out=None, test=0)
    assert run.folder.as_posix() == "runs/shapes-mobilenet-0002"
    assert run.metrics["test"] is None
    with pytest.raises(DataError, match="has no test part"):
        run.evaluate(progress=False)


# Prediction


def test_predict_keeps_the_order_and_names_what_is_broken(tiny_run, image_folder, tmp_path):
    good = image_files(image_folder)[:3]
    (tmp_path / "broken.png").write_bytes(good[0].read_bytes()[:200])
    items = [good[2], tmp_path / "broken.png", good[0], tmp_path / "missing.png", good[1]]
    rows = tiny_run.predict(items)
    assert [row["path"] for row in rows] == [str(item) for item in items]
    assert [row["error"] is None for row in rows] == [True, False, True, False, True]
    assert "No such file" in rows[3]["error"]
    for row in rows:
        if row["error"]:
            assert (row["label"], row["score"], row["probabilities"]) == (None, None, None)
        else:
            assert list(row["probabilities"]) == list(CLASSES)
            assert row["score"] == max(row["probabilities"].values())
            assert row["probabilities"][row["label"]] == row["score"]
    assert rows[2] == tiny_run.predict(good[0])[0] == tiny_run.predict(str(good[0]))[0]


def test_predict_on_a_folder_answers_its_files_by_name(tiny_run, image_folder):
    rows = tiny_run.predict(image_folder / "square")
    assert [row["path"] for row in rows] == [str(p) for p in image_files(image_folder / "square")]
    assert np.mean([row["label"] == "square" for row in rows]) > 0.7


def test_predict_on_an_array_answers_as_on_its_file(tiny_run, image_folder):
    file = image_files(image_folder)[5]
    pixels = np.asarray(Image.open(file))
    (expected,) = tiny_run.predict(file)
    for form in (pixels, pixels.astype("float32"), pixels[None], [pixels]):
        (row,) = tiny_run.predict(form)
        assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


def test_predict_on_an_array_that_is_no_image_goes_on(tiny_run, image_folder):
    pixels = np.asarray(Image.open(image_files(image_folder)[5]))
    scaled, wild = pixels / 255.0, pixels.astype("float32") * 2
    rows = tiny_run.predict([np.zeros(5), scaled, pixels, wild])
    assert [row["error"] is None for row in rows] == [False, False, True, False]
    assert "shape" in rows[0]["error"]
    assert "between 0 and 255" in rows[1]["error"]
    assert "between 0 and 255" in rows[3]["error"]


def test_predict_on_more_images_than_a_batch(tiny_run, image_folder):
    files = image_files(image_folder)
    rows = tiny_run.predict(files + files[:5])
    assert [row["path"] for row in rows] == [str(file) for file in files + files[:5]]
    for again, first in zip(rows[36:], rows[:5], strict=True):
        assert again["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)


# Evaluation


def test_evaluate_repeats_the_runs_own_test(tiny_run):
    got = tlkit.open_run(tiny_run.folder).evaluate(raw=True, progress=False)
    expected = tiny_run.metrics["test"]
    for key in ("examples", "accuracy", "interval95", "macro_f1", "confusion", "per_class"):
        assert got[key] == expected[key], key
    # The run's own is measured from the engine's features, this one by Keras: of a loss near zero
    # a share says nothing.
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4, abs=1e-6)
    assert got["left_out"] == []


def test_evaluate_on_another_folder_leaves_out_what_is_broken(tiny_run, tmp_path):
    folder = write_images(tmp_path / "new", count=4, seed=9)
    (folder / "disc" / "broken.png").write_bytes(b"no image")
    got = tiny_run.evaluate(folder, progress=False)
    assert got["examples"] == 12
    assert [item["id"] for item in got["left_out"]] == ["disc/broken.png"]
    assert got["accuracy"] > 0.5


def test_evaluate_on_a_data_set_with_parts_takes_its_test_part(tiny_run, tmp_path):
    write_images(tmp_path / "all" / "train", count=3, seed=7)
    write_images(tmp_path / "all" / "test", count=2, seed=8)
    assert tiny_run.evaluate(tmp_path / "all", progress=False)["examples"] == 6


def test_a_run_folder_can_be_moved(tiny_run, image_folder, tmp_path):
    moved = tlkit.open_run(shutil.copytree(tiny_run.folder, tmp_path / "elsewhere"))
    file = image_files(image_folder)[0]
    assert moved.predict(file) == tlkit.open_run(tiny_run.folder).predict(file)


def test_progress_false_is_silent(tiny_run, image_folder, capfd):
    tiny_run.evaluate(progress=False)
    tiny_run.predict(image_folder / "disc")
    assert capfd.readouterr().out == ""


# Plan


def test_plan_says_what_train_would_do_and_writes_nothing(image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = tlkit.plan(image_folder, progress=False, **TINY)
    assert [phase.name for phase in plan.phases] == ["scratch"]
    assert os.listdir(tmp_path) == []


# What is wrong


WRONG_DATA = {
    "missing": (None, DataError, "data: is missing"),
    "a number": (42, TlkitError, "data"),
    "a mapping": ({"x": 1}, DataError, "must be a folder"),
    "no labels": ((np.zeros((4, 8, 8, 3), "uint8"), [0, 1]), DataError, "as many labels as images"),
    "nothing": ((np.zeros((0, 8, 8, 3), "uint8"), []), DataError, "at least one"),
    "scaled": ((np.full((4, 8, 8, 3), 0.5), [0, 0, 1, 1]), DataError, "between 0 and 255"),
    "negative": ((np.full((4, 8, 8, 3), -9.0), [0, 0, 1, 1]), DataError, "between 0 and 255"),
    "no image": ((np.full((4, 8), 9), [0, 0, 1, 1]), DataError, "shape"),
    "one class": ((np.full((4, 8, 8), 9), [1, 1, 1, 1]), DataError, "at least two classes"),
}


@pytest.mark.parametrize("name", WRONG_DATA)
def test_wrong_data_is_refused_before_anything_is_written(name, train, tmp_path):
    data, error, text = WRONG_DATA[name]
    with pytest.raises(error, match=text):
        train(data)
    assert not (tmp_path / "run").exists()


def test_a_tf_data_set_without_labels_is_refused(train, tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((4, 8, 8, 3), "uint8"))
    with pytest.raises(DataError, match=r"\(image, label\) pairs"):
        train(dataset)


def test_test_arrays_with_a_class_that_training_lacks_are_refused(train, arrays):
    x, labels = arrays
    with pytest.raises(DataError, match="classes that the training data lacks"):
        train((x, labels), test=(x[:2], ["disc", "star"]))


def test_a_wrong_field_is_refused_with_the_nearest(image_folder):
    with pytest.raises(SpecError, match="Did you mean 'image_size'"):
        tlkit.train(image_folder, imagesize=32, progress=False)


def test_open_run_on_a_missing_folder_and_on_another(tmp_path):
    with pytest.raises(RunFolderError, match="does not exist"):
        tlkit.open_run(tmp_path / "missing")
    with pytest.raises(RunFolderError, match="is no run folder"):
        tlkit.open_run(tmp_path)


def test_predict_on_a_folder_without_images_is_refused(tiny_run, tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        tiny_run.predict(tmp_path)
