"""Data from CSV files and from TensorFlow Datasets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.data.sources import open_source
from tlkit.errors import DataError


def write_table(folder, lines):
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(pictures, tmp_path):
    """A CSV beside a folder of all pictures, no class folders."""
    files = sorted(pictures.rglob("*.png"))
    lines = ["image,label"]
    (tmp_path / "all").mkdir()
    for file in files:
        (tmp_path / "all" / file.name).write_bytes(file.read_bytes())
        lines.append(f"all/{file.name},{file.parent.name}")
    return write_table(tmp_path, lines)


def test_a_table_gives_the_examples_of_the_folder(table, pictures):
    source, folders = open_source(str(table)), open_source(str(pictures))
    assert source.outputs == folders.outputs
    assert source.name == "labels"
    pairs = {(e.path.name, e.label) for e in source.parts["train"]}
    assert pairs == {(e.path.name, e.label) for e in folders.parts["train"]}


def test_training_and_evaluation_take_a_table(table, tmp_path):
    run = tlkit.train(table, regime="small", out=tmp_path / "run", progress=False, **TINY)
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]
    assert run.evaluate(table, progress=False)["examples"] == 36


def test_splits_of_a_table_are_kept(tmp_path):
    rows = ["a.png,x,train", "b.png,y,", "c.png,x,valid", "d.png,y,Test"]
    parts = open_source(str(write_table(tmp_path, ["image,label,split", *rows]))).parts
    ids = {part: [e.id for e in examples] for part, examples in parts.items()}
    assert ids == {"train": ["a.png", "b.png"], "val": ["c.png"], "test": ["d.png"]}


def test_repeated_rows_count_once_and_two_labels_are_told_apart(tmp_path):
    rows = ["a.png,x", "a.png,x", "a.png,y", "b.png,y"]
    examples = open_source(str(write_table(tmp_path, ["image,label", *rows]))).parts["train"]
    assert [(e.id, e.label) for e in examples] == [("a.png", "x"), ("a.png#2", "y"), ("b.png", "y")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label", "a.png,x"], "lacks the column image. .*Received: file, label"),
        (["a.png"], "lacks the column image and label"),
        (["image,label", "a.png,"], "line 2: label is empty"),
        (["image,label", "a.png,x", ",y"], "line 3: image is empty"),
        (["image,label", "../a.png,x"], "line 2: the image lies outside the folder of the CSV"),
        (["image,label", "/etc/passwd,x"], "lies outside"),
        (["image,label,split", "a.png,x,dev"], "unknown split. .*Received: 'dev'"),
        (["image,label,split", "a.png,x,test"], "has no training rows"),
        (["image,label,split", "a.png,x,train", "a.png,x,test"], "a.png stands in two splits"),
        (["image,label", "a.png,x"], "at least two classes"),
    ],
)
def test_a_bad_table_says_where(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        open_source(str(write_table(tmp_path, lines)))


def test_a_table_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        open_source(str(path))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_source(str(tmp_path / "labels.csv"))


def test_files_of_a_table_that_are_gone_are_left_out(table):
    with table.open("a", encoding="utf-8") as file:
        file.write("all/gone.png,disc\n")
    result = CliRunner().invoke(main, ["data", "scan", str(table), "--json"])
    left_out = json.loads(result.stdout)["left_out"]
    assert left_out == [
        {"id": "all/gone.png", "reason": "cannot be read: No such file or directory"}
    ]


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory, pictures):
    """A data set of TensorFlow Datasets, registered and prepared here, with no network."""
    import tensorflow_datasets as tfds
    from PIL import Image

    class TlkitShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = sorted(p.name for p in pictures.iterdir())
            label = tfds.features.ClassLabel(names=names)
            image = tfds.features.Image(shape=(None, None, 3))
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(10, 0), "test": self._generate_examples(2, 10)}

        def _generate_examples(self, count, start):
            for folder in sorted(pictures.iterdir()):
                for file in sorted(folder.iterdir())[start : start + count]:
                    pixels = np.asarray(Image.open(file).convert("RGB"))
                    yield file.name, {"image": pixels, "label": folder.name}

    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def prepared(tfds_folder, monkeypatch):
    import tensorflow_datasets as tfds

    real = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: real(name, data_dir=str(tfds_folder)))


@pytest.mark.usefixtures("prepared")
def test_a_data_set_of_tfds_is_prepared_and_trained_on(tmp_path):
    run = tlkit.train(
        "tfds:tlkit_shapes", regime="small", out=tmp_path / "run", progress=False, **TINY
    )
    assert run.labels == ("disc", "square", "stripes")
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]


@pytest.mark.usefixtures("prepared")
def test_a_split_of_tfds_is_the_whole_source():
    parts = open_source("tfds:tlkit_shapes:test").parts
    assert list(parts) == ["train"]
    assert len(parts["train"]) == 6
    assert parts["train"][0].pixels.shape == (48, 40, 3)


@pytest.mark.usefixtures("prepared")
def test_an_unknown_split_of_tfds_names_those_there_are():
    with pytest.raises(DataError, match="unknown split. Allowed: .*test.*train.*Received: 'dev'"):
        open_source("tfds:tlkit_shapes:dev")


def test_an_unknown_name_of_tfds_says_which_is_near():
    with pytest.raises(DataError, match="knows no such data set. Did you mean 'mnist'?"):
        open_source("tfds:mnits")
