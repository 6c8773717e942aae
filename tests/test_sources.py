"""Where examples come from: folders of every kind, arrays, tf.data sets, the embedded sets."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, PER_CLASS, write_images
from PIL import Image

from tlkit.data.readers import samples as embedded
from tlkit.data.readers.arrays import array_examples
from tlkit.data.readers.labelled import open_labelled
from tlkit.data.readers.open import open_source
from tlkit.data.targets import ClassTargets, sorted_labels
from tlkit.errors import DataError
from tlkit.spec.tables import TableSpec

ONE_CLASS = ClassTargets()


def touch(root: Path, *files: str) -> Path:
    """Make files; listing looks at names only, so they may be empty."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def ids(examples) -> list[str]:
    return [example.id for example in examples]


# Folders


def test_a_folder_of_class_folders(image_folder):
    source = open_source(image_folder)
    assert source.name == image_folder.name
    assert source.outputs == tuple(sorted(CLASSES))
    assert list(source.parts) == ["train"]
    assert Counter(e.label for e in source.parts["train"]) == dict.fromkeys(CLASSES, PER_CLASS)


def test_ids_are_relative_with_forward_slashes(tmp_path):
    touch(tmp_path, "a/deep/er/1.jpg", "b/2.PNG")
    examples = open_source(str(tmp_path)).parts["train"]
    assert ids(examples) == ["a/deep/er/1.jpg", "b/2.PNG"]
    assert [e.label for e in examples] == ["a", "b"]
    assert [e.path for e in examples] == [tmp_path / e.id for e in examples]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_a_folder_of_parts(tmp_path, val):
    touch(
        tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{val}/a/3.jpg", "test/b/4.jpg", "readme.txt"
    )
    source = open_source(tmp_path)
    assert {part: ids(group) for part, group in source.parts.items()} == {
        "train": ["train/a/1.jpg", "train/b/2.jpg"],
        "val": [f"{val}/a/3.jpg"],
        "test": ["test/b/4.jpg"],
    }


def test_parts_may_be_missing_but_for_train(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg")
    assert list(open_source(tmp_path).parts) == ["train", "test"]


def test_class_folders_called_test_and_val_are_classes_where_there_is_no_train(tmp_path):
    touch(tmp_path, "test/1.jpg", "val/2.jpg")
    assert open_source(tmp_path).outputs == ("test", "val")


def test_hidden_files_and_folders_are_no_images(tmp_path):
    touch(
        tmp_path,
        "a/1.jpg",
        "a/._1.jpg",
        "a/.thumbnails/1.jpg",
        "b/2.jpg",
        ".ipynb_checkpoints/c.jpg",
        "b/notes.txt",
        "b/Thumbs.db",
    )
    source = open_source(tmp_path)
    assert source.outputs == ("a", "b")
    assert ids(source.parts["train"]) == ["a/1.jpg", "b/2.jpg"]


def test_a_hidden_folder_above_the_data_does_not_hide_it(tmp_path):
    root = touch(tmp_path / ".data", "a/1.jpg", "b/2.jpg")
    assert len(open_source(root).parts["train"]) == 2


def test_numbers_as_class_names_are_ordered_by_value(tmp_path):
    touch(tmp_path, *(f"{n}/x.jpg" for n in (0, 10, 2, 1)))
    assert open_source(tmp_path).outputs == ("0", "1", "2", "10")


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "b"], ["10", "9", "b"]),
        (["007", "10", "7"], ["007", "7", "10"]),
        (["b", "a", "b"], ["a", "b"]),
        (["2", "\N{SUPERSCRIPT TWO}"], ["2", "\N{SUPERSCRIPT TWO}"]),
    ],
)
def test_order_of_labels(labels, order):
    assert sorted_labels(labels) == order


def test_validation_and_test_folders_of_their_own(tmp_path, image_folder):
    val = write_images(tmp_path / "val", count=2, seed=1)
    test = write_images(tmp_path / "test", labels=CLASSES[:1], count=3, seed=2)
    source = open_source(image_folder, val=val, test=str(test))
    assert len(source.parts["train"]) == PER_CLASS * len(CLASSES)
    assert all(id_.startswith("val/") for id_ in ids(source.parts["val"]))
    assert ids(source.parts["test"]) == [f"test/disc/disc0{i}.png" for i in range(3)]


def test_a_folder_of_parts_given_for_validation_counts_whole(tmp_path, image_folder):
    other = touch(tmp_path, "train/disc/1.png", "test/disc/2.png")
    assert len(open_source(image_folder, val=other).parts["val"]) == 2


def message_of(*args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        open_source(*args, **kwargs)
    return str(caught.value)


def test_missing_folder(tmp_path):
    text = message_of(tmp_path / "absent")
    assert f"data {tmp_path / 'absent'}: does not exist. Allowed: a folder of class folders" in text


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a.bin").touch()
    assert "a.bin: is not a folder. Allowed:" in message_of(tmp_path / "a.bin")


def test_empty_folder(tmp_path):
    text = message_of(tmp_path)
    assert "needs one folder for each class" in text
    assert text.endswith("Received: no images")


def test_class_folders_without_images(tmp_path):
    (tmp_path / "a").mkdir()
    touch(tmp_path, "b/notes.txt")
    assert message_of(tmp_path).endswith("Received: no images, but 1 companion (.txt)")


def test_loose_images(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    assert message_of(tmp_path).endswith("Received: 2 images outside class folders")


def test_one_class(tmp_path):
    touch(tmp_path, "rose/1.jpg", "rose/2.jpg")
    assert "needs at least two classes" in message_of(tmp_path)
    assert "Received: ['rose']" in message_of(tmp_path)


@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_the_training_data_lacks(tmp_path, part):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{part}/a/2.jpg", f"{part}/c/2.jpg")
    text = message_of(tmp_path)
    assert f"the {part} data has classes that the training data lacks" in text
    assert "Allowed: a, b. Received: c" in text


@pytest.mark.parametrize(
    ("names", "taken", "said"),
    [
        (["train/a/1", "train/b/2", "test/b/4"], 1, "1 image; not measured: train 2"),
        (["train/a/1", "val/a/2", "test/b/3", "test/a/4"], 2, "2 images; not measured: train 1, v"),
        (["train/a/1", "valid/b/2", "test/b/4"], 1, "1 image; not measured: train 1, val 1"),
        (
            ["wrapped/train/a/1", "wrapped/train/b/2", "wrapped/test/b/4"],
            1,
            "1 image; not measured",
        ),
        (["a/1", "b/2"], 2, None),
        (["train_a/1", "test_b/2", "b/4"], 3, None),
    ],
    ids=str,
)
def test_an_evaluation_takes_the_test_part_and_says_so_or_all(tmp_path, names, taken, said):
    touch(tmp_path / "own", *(f"{name}.jpg" for name in names))
    labels = ("a", "b", "train_a", "test_b")
    examples, notes, part = open_labelled(tmp_path / "own", labels)
    assert len(examples) == taken
    assert part == ("test" if said else None)
    told = [note for note in notes if "its test part is measured" in note]
    assert len(told) == bool(said)
    assert not said or f"of own its test part is measured, {said}" in told[0]


def test_of_a_table_with_parts_the_test_part_is_measured_and_it_is_said(tmp_path, image_folder):
    rows = [
        f"{p},{p.parent.name},{'test' if '00' in p.name else 'train'}" for p in files(image_folder)
    ]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["image,label,split", *rows]))
    targets = ClassTargets(table=TableSpec(outside=True))
    examples, notes, part = open_labelled(table, CLASSES, targets)
    assert (len(examples), part) == (3, "test")
    assert notes[-1] == "of t its test part is measured, 3 images; not measured: train 33"


def files(folder):
    return sorted(folder.rglob("*.png"))


def test_an_evaluation_on_unknown_classes_is_an_error(image_folder):
    with pytest.raises(DataError, match=r"evaluation data has classes.*Allowed: disc.*stripes"):
        open_labelled(image_folder, ("disc", "square"))


# Arrays


def grey(count: int = 4, side: int = 8) -> np.ndarray:
    values = np.arange(count * side * side) % 256
    return values.reshape(count, side, side).astype(np.uint8)


LABELS = [0, 1, 0, 1]


def test_grey_arrays_become_rgb():
    for images in (grey(), grey()[..., None]):
        examples = array_examples((images, LABELS), ONE_CLASS)
        assert ids(examples) == [f"array/{i:06d}" for i in range(4)]
        assert [e.label for e in examples] == ["0", "1", "0", "1"]
        assert all(e.pixels.shape == (8, 8, 3) for e in examples)
        for channel in range(3):
            np.testing.assert_array_equal(examples[2].pixels[..., channel], grey()[2])


def test_alpha_is_kept_for_the_pipeline_to_blend():
    rgba = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 4), dtype=np.uint8)
    examples = array_examples((rgba, LABELS), ONE_CLASS)
    np.testing.assert_array_equal(examples[3].pixels, rgba[3])


def test_images_of_different_sizes():
    images = [np.full((n, n + 1, 3), 50 * n, np.uint8) for n in (2, 3, 4)]
    assert [e.pixels.shape for e in array_examples((images, ["a", "b", "a"]), ONE_CLASS)] == [
        (2, 3, 3),
        (3, 4, 3),
        (4, 5, 3),
    ]


def test_integers_and_floats_keep_their_values():
    images = np.array([[[0.0, 127.5]], [[255.0, 3.0]]])
    kept = array_examples((images, ["a", "b"]), ONE_CLASS)[0].pixels
    assert kept.dtype == np.float32
    assert kept[0, 1, 0] == 127.5
    assert (
        array_examples((grey().astype(np.int64), LABELS), ONE_CLASS)[0].pixels.dtype == np.float32
    )


@pytest.mark.parametrize(
    "labels",
    [
        np.array(LABELS),
        np.array(LABELS)[:, None],
        np.eye(2)[LABELS],
        np.array(LABELS, np.float32).astype(np.int32),
    ],
    ids=["indices", "column", "one-hot", "int32"],
)
def test_labels_as_numbers_of_every_shape(labels):
    assert [e.label for e in array_examples((grey(), labels), ONE_CLASS)] == ["0", "1", "0", "1"]


@pytest.mark.parametrize("labels", [["x", "y", "x", "y"], [b"x", b"y", b"x", b"y"]])
def test_labels_as_names(labels):
    assert [e.label for e in array_examples((grey(), labels), ONE_CLASS)] == ["x", "y", "x", "y"]
    as_array = array_examples((grey(), np.array(labels)), ONE_CLASS)
    assert [e.label for e in as_array] == ["x", "y", "x", "y"]


@pytest.mark.parametrize("scaled", [grey() / 255, grey() / 127.5 - 1, grey() * 2.0])
def test_values_that_were_scaled_already_are_refused(scaled):
    with pytest.raises(DataError, match="must lie between 0 and 255 .tlkit does the scaling") as e:
        array_examples((scaled, LABELS), ONE_CLASS)
    assert f"Received: {scaled.min():g} to {scaled.max():g}" in str(e.value)


def test_nan_is_refused():
    images = grey().astype(np.float32)
    images[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="must lie between 0 and 255"):
        array_examples((images, LABELS), ONE_CLASS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (3, "must be a folder, an (images, labels) pair or a tf.data.Dataset of pairs"),
        ((grey(), LABELS, LABELS), "Received: tuple"),
        ({"x": 1}, "Received: dict"),
        ((grey(), [0, 1]), "Received: 4 images, 2 labels"),
        (([], []), "Received: 0 images, 0 labels"),
        ((np.zeros((2, 4, 4, 2)), [0, 1]), "Received: (4, 4, 2)"),
        ((np.arange(20), [0] * 20), "Received: ()"),
    ],
)
def test_arrays_of_other_shapes_are_refused(data, words):
    with pytest.raises(DataError) as caught:
        array_examples(data, ONE_CLASS)
    assert words in str(caught.value)


def test_array_sources_need_two_classes():
    assert "needs at least two classes" in message_of((grey(), [1, 1, 1, 1]))


def test_arrays_for_validation():
    source = open_source((grey(), LABELS), val=(grey(2), [0, 1]))
    assert source.outputs == ("0", "1")
    assert ids(source.parts["val"]) == ["val/array/000000", "val/array/000001"]


# tf.data


@pytest.mark.parametrize("batch", [None, 3], ids=["unbatched", "batched"])
def test_tf_data_sets(batch):
    dataset = tf.data.Dataset.from_tensor_slices((grey()[..., None], LABELS))
    dataset = dataset if batch is None else dataset.batch(batch)
    examples = array_examples(dataset, ONE_CLASS)
    assert [e.label for e in examples] == ["0", "1", "0", "1"]
    np.testing.assert_array_equal(examples[3].pixels[..., 1], grey()[3])


def test_tf_data_sets_with_one_hot_labels():
    dataset = tf.data.Dataset.from_tensor_slices((grey()[..., None], np.eye(2)[LABELS]))
    assert [e.label for e in array_examples(dataset.batch(2), ONE_CLASS)] == ["0", "1", "0", "1"]


def test_tf_data_sets_with_names():
    dataset = tf.data.Dataset.from_tensor_slices((grey()[..., None], ["x", "y", "x", "y"]))
    assert [e.label for e in array_examples(dataset, ONE_CLASS)] == ["x", "y", "x", "y"]


def test_tf_data_sets_without_labels_are_refused():
    dataset = tf.data.Dataset.from_tensor_slices(grey())
    with pytest.raises(DataError, match=r"must give \(image, label\) pairs"):
        array_examples(dataset, ONE_CLASS)


# Embedded data


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_digits_are_laid_out_once_in_the_cache(cache):
    source = open_source("example:digits")
    assert source.name == "digits"
    assert source.outputs == tuple("0123456789")
    assert len(source.parts["train"]) == 1797
    first = source.parts["train"][0].path
    assert first.is_relative_to(cache)
    with Image.open(first) as image:
        assert image.size == (8, 8)
    made = first.stat().st_mtime_ns
    assert open_source("example:digits").parts["train"][0].path.stat().st_mtime_ns == made
    assert sorted(p.name for p in (cache / "examples").iterdir()) == ["digits", "digits.names"]


@pytest.mark.parametrize(
    "change", ["gone", "moved", "written", "time", "class", "names", "pipe", "huge", "emptied"]
)
def test_digits_that_are_no_longer_what_they_were_are_laid_out_anew(cache, change):
    examples = open_source("example:digits").parts["train"]
    folder = cache / "examples" / "digits"
    first = examples[0].path
    content = first.read_bytes()
    time.sleep(0.02)  # the clock of a file system may tick a hundred times a second
    if change == "gone":
        first.unlink()
    elif change == "moved":
        first.rename(folder / "1" / first.name)
    elif change == "written":
        first.write_bytes(examples[1].path.read_bytes())
    elif change == "time":
        before = first.stat()
        first.write_bytes(examples[1].path.read_bytes())
        os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "pipe":
        (cache / "examples" / "digits.names").unlink()
        os.mkfifo(cache / "examples" / "digits.names")
    elif change == "huge":
        os.truncate(cache / "examples" / "digits.names", 2**41)
    elif change == "class":
        (folder / "0").rename(folder / "x")
        (folder / "1").rename(folder / "0")
        (folder / "x").rename(folder / "1")
    elif change == "names":
        (cache / "examples" / "digits.names").unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    again = open_source("example:digits").parts["train"]
    assert ids(again) == ids(examples)
    assert first.read_bytes() == content


def test_a_failed_preparation_leaves_nothing_behind(cache, monkeypatch):
    def fail(folder: Path) -> None:
        (folder / "half").mkdir()
        raise DataError("no room")

    monkeypatch.setitem(embedded.EXAMPLES, "digits", fail)
    assert message_of("example:digits") == "no room"
    assert list((cache / "examples").iterdir()) == []


def test_unknown_example(cache):
    text = message_of("example:digit")
    assert "unknown example. Did you mean 'digits'?" in text
    assert "Allowed: example:elpv, example:digits" in text
    assert not cache.exists()


def test_elpv_without_its_package_says_what_to_install(cache, monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tlkit[quickstart]'" in message_of("example:elpv")


def test_elpv_labels_follow_the_defect_probability(cache, tmp_path, monkeypatch):
    package = tmp_path / "elpv_dataset"
    (package / "data" / "images").mkdir(parents=True)
    rows = []
    for i, probability in enumerate((0.0, 1 / 3, 2 / 3, 1.0)):
        Image.new("L", (4, 4), 60 * i).save(package / "data" / "images" / f"cell{i}.png")
        rows.append(f"images/cell{i}.png  {probability}  mono")
    (package / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    spec = type("Spec", (), {"submodule_search_locations": [str(package)]})
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: spec)
    examples = open_source("example:elpv").parts["train"]
    assert ids(examples) == [
        "defective/cell2.png",
        "defective/cell3.png",
        "intact/cell0.png",
        "intact/cell1.png",
    ]
    shutil.rmtree(package)
    assert len(open_source("example:elpv").parts["train"]) == 4


@pytest.mark.parametrize("strange", ["val", "tulips"])
def test_a_folder_called_train_stands_beside_parts_only(tmp_path, strange):
    for part in ("train", "validation", strange):
        write_images(tmp_path / part, count=2)
    with pytest.raises(DataError, match=f"must hold parts: .*Received: .*{strange}"):
        open_source(tmp_path)


def test_a_name_that_is_too_long_is_refused():
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        open_source("x" * 300)
