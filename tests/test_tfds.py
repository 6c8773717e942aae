"""Data sets of TensorFlow Datasets: written by `tlkit data prepare`, and read, also from others."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from click.testing import CliRunner
from conftest import CLASSES, TINY, draw_image, write_images
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.data.feed import write_tfds as sharded
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.number_targets import NumberTargets
from tlkit.data.readers.open import open_source
from tlkit.data.targets import LabelsTargets
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.spec.read import make_spec
from tlkit.spec.tables import TableSpec
from tlkit.tasks.classification import Classification

TURNED = 0x0112
"""The EXIF tag of the orientation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Class folders with a turned photograph, an image there twice, and two broken files."""
    root = write_images(tmp_path_factory.mktemp("data") / "shapes")
    exif = Image.Exif()
    exif[TURNED] = 6
    draw_image("disc", np.random.default_rng(7)).save(root / "disc" / "turned.jpg", exif=exif)
    twin = (root / "square" / "square03.png").read_bytes()
    (root / "square" / "twin.png").write_bytes(twin)
    (root / "square" / "empty.png").touch()
    (root / "disc" / "words.jpg").write_text("no image")
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    result = CliRunner().invoke(main, ["data", "prepare", str(folder), str(out)])
    assert result.exit_code == 0, result.output
    assert "left out  disc/words.jpg: not an image" in result.output
    assert f"next      tlkit train {out}" in result.output
    return out


def rows_of(prepared: Path, split: str) -> list[dict]:
    builder = tfds.builder_from_directory(prepared)
    raw = {"image": tfds.decode.SkipDecoding()}
    return list(tfds.as_numpy(builder.as_dataset(split=split, decoders=raw)))


def message_of(function, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# Writing


def test_the_library_reads_what_was_prepared(folder, prepared):
    builder = tfds.builder_from_directory(prepared)
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert sum(counts.values()) == 38
    assert set(counts) == {"train", "validation", "test"}
    assert builder.info.features["label"].names == sorted(CLASSES)
    image, label = next(iter(builder.as_dataset(split="test", as_supervised=True)))
    assert image.shape[-1] == 3
    assert 0 <= int(label) < 3


def test_images_go_in_byte_for_byte_under_their_names(folder, prepared):
    names = sorted(CLASSES)
    seen = set()
    for split in ("train", "validation", "test"):
        for row in rows_of(prepared, split):
            file = folder / row["id"].decode()
            assert row["image"] == file.read_bytes()
            assert names[row["label"]] == file.parent.name
            seen.add(row["id"].decode())
    usable = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
    assert seen == usable - {"square/empty.png", "disc/words.jpg"}


def test_copies_stay_in_one_split_and_what_is_broken_is_listed(prepared):
    about = json.loads((prepared / "tlkit.json").read_text())
    assert about["left_out"] == [
        {"id": "disc/words.jpg", "reason": "not an image: starts with b'no image'"},
        {"id": "square/empty.png", "reason": "empty file"},
    ]
    assert about["duplicates"] == [["square/square03.png", "square/twin.png"]]
    homes = [
        {row["id"] for row in rows_of(prepared, split)} for split in ("train", "validation", "test")
    ]
    assert sum(b"square/twin.png" in ids and b"square/square03.png" in ids for ids in homes) == 1


def test_many_shards_are_one_data_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sharded, "SHARD_BYTES", 20_000)
    out = tlkit.prepare_data(folder, tmp_path / "out", test=0, progress=False)
    assert len(list(out.glob("*-train.tfrecord-*"))) > 2
    assert not list(out.glob("*-test.*"))
    parts = open_source(out).parts
    assert list(parts) == ["train", "val"]
    for example in (*parts["train"], *parts["val"]):
        assert example.read() == (folder / example.id).read_bytes()


def test_parts_that_are_given_are_kept(tmp_path):
    for i, part in enumerate(("train", "val", "test")):
        write_images(tmp_path / "data" / part, count=3, seed=i)
    out = tlkit.prepare_data(tmp_path / "data", tmp_path / "out", progress=False)
    parts = open_source(out).parts
    assert {name: {e.id.split("/")[0] for e in group} for name, group in parts.items()} == {
        "train": {"train"},
        "val": {"val"},
        "test": {"test"},
    }


def test_arrays_are_prepared_without_loss(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 9, 7, 3), dtype=np.uint8)
    data = (images, [0, 1] * 6)
    out = tlkit.prepare_data(data, tmp_path / "out", progress=False)
    rows = {e.id: e for part in open_source(out).parts.values() for e in part}
    for i, image in enumerate(images):
        with Image.open(io.BytesIO(rows[f"array/{i:06d}"].read())) as image:
            np.testing.assert_array_equal(np.asarray(image), image)
    broken = (images // 2 + 0.5, [0, 1] * 6)
    text = message_of(tlkit.prepare_data, broken, tmp_path / "b", progress=False)
    assert "holds whole numbers from 0 to 255. Received: float32 with fractions" in text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def table(folder, tmp_path) -> Path:
    files = sorted(folder.rglob("*0*.png"))
    lines = ["image,label,x,y"]
    for i, file in enumerate(files):
        labels = "|".join(name for name, each in (("even", 2), ("third", 3)) if i % each == 0)
        (tmp_path / file.name).write_bytes(file.read_bytes())
        lines.append(f"{file.name},{labels},{i / 7},{-i}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return tmp_path / "table.csv"


def test_several_labels_come_back(table, tmp_path):
    arguments = ["data", "prepare", table, tmp_path / "out", "--set", "task=multilabel"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    given = open_source(table, targets=LabelsTargets()).parts["train"]
    back = open_source(tmp_path / "out", targets=LabelsTargets())
    assert back.outputs == ("even", "third")
    labels = {e.id: e.label for part in back.parts.values() for e in part}
    assert labels == {e.id: e.label for e in given}
    feature = tfds.builder_from_directory(tmp_path / "out").info.features["label"]
    assert feature.feature.names == ["even", "third"]
    text = message_of(open_source, tmp_path / "out")
    assert text.endswith("was prepared for another task; use --set task=multilabel")


def test_numbers_come_back_exactly(table, tmp_path):
    fields = {"task": "regression", "table": {"targets": ["x", "y"]}}
    tlkit.prepare_data(table, tmp_path / "out", progress=False, **fields)
    numbers = NumberTargets(TableSpec(targets=["x", "y"]))
    back = open_source(tmp_path / "out", targets=numbers)
    assert back.outputs == ("x", "y")
    labels = {e.id: e.label for part in back.parts.values() for e in part}
    given = open_source(table, targets=numbers).parts["train"]
    assert labels == {e.id: e.label for e in given}
    rows = rows_of(tmp_path / "out", "train")
    assert rows[0]["label"] == pytest.approx(labels[rows[0]["id"].decode()])


def test_a_place_that_is_taken_is_left_as_it_is(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    for out, problem in (
        ("full", "is not empty"),
        ("full/note.txt", "is a file"),
        ("full/note.txt/out", f"{tmp_path}/full/note.txt is a file"),
    ):
        result = CliRunner().invoke(main, ["data", "prepare", str(folder), str(tmp_path / out)])
        assert result.exit_code == 2
        assert f"OUT {tmp_path / out}: {problem}. Allowed: a new or empty folder" in result.stderr
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"


class Interrupting(Progress):
    """A person who presses Ctrl-C while the test part is written."""

    def bar(self, label: str, what: str, total: int):
        if what == "writing test":
            raise KeyboardInterrupt
        return super().bar(label, what, total)


def test_an_interrupted_preparation_leaves_nothing(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tlkit.prepare_data(folder, tmp_path / "deep" / "out", progress=Interrupting(quiet=True))
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_disk_that_takes_nothing_is_one_message(folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharded, "_chunks", full)
    text = message_of(tlkit.prepare_data, folder, tmp_path / "out", progress=False)
    assert text == f"OUT {tmp_path}/out: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_strict_refuses_broken_files(folder, tmp_path):
    arguments = ["data", "prepare", str(folder), str(tmp_path / "out"), "--strict"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "2 files cannot be used (--strict)" in result.stderr
    assert not (tmp_path / "out").exists()


# Training on it


@pytest.fixture(scope="module")
def fields(tiny_weights):
    return {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}, "progress": False}


def test_training_on_it_is_training_on_the_files(folder, prepared, fields, tmp_path):
    """The same images, parts, order and features: equal to the last bit."""
    files = tlkit.train(folder, out=tmp_path / "files", regime="small", **fields)
    records = tlkit.train(prepared, out=tmp_path / "records", regime="small", **fields)
    assert records.metrics["examples"] == files.metrics["examples"]
    assert records.metrics["val"] == files.metrics["val"]
    one, other = (run.folder / "predictions.csv" for run in (files, records))
    assert other.read_bytes() == one.read_bytes()
    again = tlkit.open_run(records.folder).evaluate(progress=False)
    assert again["accuracy"] == records.metrics["test"]["accuracy"]


def test_it_is_streamed_as_the_files_are(folder, prepared):
    def streamed(data):
        spec = make_spec({"data": str(data), "image_size": 32, "batch_size": 8})
        ready = load_dataset(spec, {}, Progress(quiet=True))
        part = ready.training(Classification(CLASSES))
        return [(x.numpy(), y.numpy()) for x, y in part.epochs(True)]

    for (x, y), (other_x, other_y) in zip(streamed(folder), streamed(prepared), strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


def test_the_scan_believes_the_index_and_reading_checks_it(prepared, tmp_path):
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    parts = open_source(copy).parts
    shard = next(copy.glob("*-train.tfrecord-*"))
    example = parts["train"][0]
    content = example.read()
    whole = shard.read_bytes()
    at = whole.index(content) + len(content) // 2
    shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(OSError, match=r"record \d+ of .*copy is not what its index says"):
        example.read()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda out: cut(next(out.glob("*-test.tfrecord-*"))), "it ends within a record"),
        (lambda out: next(out.glob("*-test.tfrecord-*")).unlink(), "6 entries for 0 records"),
        (
            lambda out: (out / "index-test.jsonl").unlink(),
            "index-test.jsonl: is missing or damaged",
        ),
        (lambda out: (out / "index-test.jsonl").write_text("{}"), "is missing or damaged"),
        (lambda out: (out / "index-test.jsonl").write_text(""), "or was replaced: not what tlkit"),
        (lambda out: (out / "tlkit.json").write_text("{"), "tlkit.json is missing or damaged"),
        (lambda out: renumber(out / "tlkit.json"), "by another version of tlkit"),
        (
            lambda out: (out / "dataset_info.json").write_text("{"),
            "dataset_info.json: is missing or damaged, or was replaced",
        ),
        (lambda out: (out / "dataset_info.json").unlink(), "dataset_info.json: is missing"),
        (lambda out: (out / "features.json").unlink(), "features.json: is missing"),
        (lambda out: pipe(out / "features.json"), "features.json: is missing or damaged"),
        (lambda out: pipe(out / "tlkit.json"), "tlkit.json is missing or damaged"),
        (lambda out: pipe(out / "index-test.jsonl"), "index-test.jsonl: is missing or damaged"),
        (lambda out: os.truncate(out / "index-train.jsonl", 2**41), "index-train.jsonl: is"),
        (lambda out: pipe(next(out.glob("*-test.tfrecord-*"))), "is a pipe or a device"),
        (
            lambda out: os.truncate(next(out.glob("*-test.tfrecord-*")), 2**41),
            "it ends within a record",
        ),
    ],
)
def test_a_damaged_data_set_is_refused(prepared, tmp_path, damage, problem):
    copy = Path(shutil.copytree(prepared, tmp_path / "copy"))
    damage(copy)
    result = CliRunner().invoke(main, ["data", "scan", str(copy)])
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def renumber(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))


def test_an_example_takes_few_bytes(tmp_path):
    """Of an image only its name, hash and number are in memory (benchmarks/prepared_memory.py)."""
    images = np.random.default_rng(0).integers(0, 256, (2000, 4, 4, 3), dtype=np.uint8)
    data = (images, np.arange(2000) % 4)
    out = tlkit.prepare_data(data, tmp_path / "out", progress=False)
    open_source(out)  # what is imported at the first use does not count
    tracemalloc.start()
    source = open_source(out)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, source.parts.values())) == 2000
    assert held / 2000 < 500


# Data sets of others


@pytest.fixture(scope="module")
def registered(image_folder):
    """A data set as the library's users write one; registered under its name."""

    class TlkitShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            names = sorted(p.name for p in image_folder.iterdir())
            label = tfds.features.ClassLabel(names=names)
            image = tfds.features.Image(shape=(None, None, 3))
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(10, 0), "test": self._generate_examples(2, 10)}

        def _generate_examples(self, count, start):
            for folder in sorted(image_folder.iterdir()):
                for file in sorted(folder.iterdir())[start : start + count]:
                    pixels = np.asarray(Image.open(file).convert("RGB"))
                    yield file.name, {"image": pixels, "label": folder.name}

    return TlkitShapes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def by_name(registered, data_dir, monkeypatch):
    real = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: real(name, data_dir=str(data_dir)))


@pytest.mark.usefixtures("by_name")
def test_a_data_set_of_tfds_is_prepared_and_trained_on(tmp_path):
    run = tlkit.train(
        "tfds:tlkit_shapes", regime="small", out=tmp_path / "run", progress=False, **TINY
    )
    assert run.labels == ("disc", "square", "stripes")
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize(("split", "count"), [("test", 6), ("train[:40%]", 12), ("test+train", 36)])
def test_a_split_of_tfds_is_the_whole_source(split, count):
    parts = open_source(f"tfds:tlkit_shapes:{split}").parts
    assert list(parts) == ["train"]
    assert len(parts["train"]) == count
    for example in parts["train"]:
        assert example.pixels is None
        with Image.open(io.BytesIO(example.read())) as image:
            assert image.size == (40, 48)


@pytest.mark.usefixtures("by_name")
def test_an_unknown_split_of_tfds_names_those_there_are():
    with pytest.raises(DataError, match="unknown split. Allowed: .*test.*train.*Received: 'dev'"):
        open_source("tfds:tlkit_shapes:dev")


def test_an_unknown_name_of_tfds_says_which_is_near():
    with pytest.raises(DataError, match="knows no such data set. Did you mean 'mnist'?"):
        open_source("tfds:mnits")


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record", "parquet"])
def test_a_folder_that_the_library_wrote_is_data(registered, image_folder, tmp_path, file_format):
    builder = registered(data_dir=str(tmp_path), file_format=file_format)
    builder.download_and_prepare()
    source = open_source(builder.data_dir)
    assert source.outputs == ("disc", "square", "stripes")
    assert {part: len(group) for part, group in source.parts.items()} == {"train": 30, "test": 6}
    wanted = {
        np.asarray(Image.open(f).convert("RGB")).tobytes() for f in image_folder.rglob("*.png")
    }
    for example in (*source.parts["train"], *source.parts["test"]):
        pixels = example.pixels
        if pixels is None:
            pixels = np.asarray(Image.open(io.BytesIO(example.read())))
        assert pixels.tobytes() in wanted
        assert np.unique(np.argsort(pixels.reshape(-1, 3).mean(0))).size == 3


def test_other_features_are_refused(tmp_path):
    features = tfds.features.FeaturesDict({"number": np.int64})
    identity = tfds.core.dataset_info.DatasetIdentity("numbers", "1.0.0", str(tmp_path), "here")
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [{"number": 1}]})
    writer.close_all()
    text = message_of(open_source, tmp_path)
    assert text.endswith("needs the features image and label. Received: ['number']")


def test_a_registered_name_works_under_mock_data(tmp_path):
    with tfds.testing.mock_data(num_examples=40):
        run = tlkit.train(
            "tfds:mnist:train", regime="small", out=tmp_path / "run", progress=False, **TINY
        )
    assert run.metrics["examples"]["train"] >= 20
    assert set(run.labels) <= set("0123456789")


def test_the_layout_of_image_folder_is_a_folder_of_parts(tmp_path):
    for i, part in enumerate(("train", "test")):
        write_images(tmp_path / "data" / part, count=3, seed=i)
    library = tfds.ImageFolder(str(tmp_path / "data"))
    source = open_source(tmp_path / "data")
    assert list(source.outputs) == library.info.features["label"].names
    for part, group in source.parts.items():
        assert len(group) == library.info.splits[part].num_examples


def test_a_prepared_set_is_found_by_name_offline(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "shapes_of_mine" / "1.0.0")
    # No proxy answers at this port: what would be downloaded fails.
    env = {**os.environ, "TFDS_DATA_DIR": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "tlkit", "data", "scan", "tfds:shapes_of_mine", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["classes"]
    assert sum(sum(part.values()) for part in counts.values()) == 38
