"""Folders as people have them: wrappers, parts of every name, rubbish; nothing guessed unsaid."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from pathlib import Path
from random import Random

import pytest
from conftest import CLASSES, TINY, write_images

import tlkit
from tlkit.data.readers.folder_names import part_of, parts_of, says_masks, says_nothing
from tlkit.data.readers.labelled import open_labelled
from tlkit.data.readers.open import image_files, open_source
from tlkit.data.scan.summary import scan_source
from tlkit.data.wording import few, number
from tlkit.errors import DataError
from tlkit.progress import Progress

QUIET = Progress(quiet=True)
JPEG, PNG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
GIF, WEBP = b"GIF89a\1\0\1\0\0\0", b"RIFF\x24\0\0\0WEBPVP8 "
BMP = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0"


def lay(root: Path, *files: str) -> Path:
    """Make files, empty ones; a name with a slash at its end is a folder."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    return root


def listed(root: Path, *files: str) -> tuple[dict[str, dict[str, list[str]]], str]:
    """Lay out files and list them: the ids of each label of each part, and all notes."""
    source = open_source(lay(root, *files))
    found: dict[str, dict[str, list[str]]] = {}
    for part, examples in source.parts.items():
        for example in examples:
            found.setdefault(part, {}).setdefault(example.label, []).append(example.id)
    return found, " | ".join(source.notes)


def refused(root: Path, *files: str) -> str:
    with pytest.raises(DataError) as caught:
        open_source(lay(root, *files))
    return str(caught.value)


def classes_of(found: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    return {part: sorted(own) for part, own in found.items()}


# Names


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (
            "train",
            "train Training TRAIN training_set train_set seg_train train-images TrainData "
            "trainset train2017 Train(1) training_imgs train.split images_train",
        ),
        ("val", "val valid Validation dev VAL_SET val2017 devset validation-images valData"),
        ("test", "test Testing test_set TESTSET seg_test test1 test_images holdout"),
        (None, "trainers contest latest seg_pred trains values Devon unlabeled 10 images 列車"),
    ],
)
def test_names_of_parts(part, names):
    assert {name: part_of(name) for name in names.split()} == dict.fromkeys(names.split(), part)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["flowers_train", "flowers_test"], ["train", "test"]),
        (["FlowersTrain", "FlowersVal", "FlowersPred"], ["train", "val", None]),
        (["train-flowers", "test-flowers"], ["train", "test"]),
        (["my.set.train.v2", "my.set.test.v2"], ["train", "test"]),
        (["steam_train", "steam_boat"], [None, None]),
        (["bullet_train"], [None]),
        (["rose", "tulip", "test"], [None, None, "test"]),
        ([], []),
    ],
)
def test_what_all_names_share_is_the_name_of_the_data(names, parts):
    found = parts_of(names)
    assert [found.get(name) for name in names] == parts


def test_names_of_images_and_of_masks():
    for name in ("images", "JPEGImages", "img", "data", "Raw_Images", "Pictures"):
        assert says_nothing(name), name
        assert not says_masks(name), name
    for name in ("masks", "Labels", "annotations", "image_masks", "SegmentationClass"):
        assert not says_nothing(name), name
        assert says_masks(name), name
    assert not says_nothing("10")


@pytest.mark.parametrize("word", ["dataset", "images", "imgsegs", "trainset", "maskdata"])
def test_a_name_made_to_take_long_is_read_at_once(word):
    start = time.monotonic()
    for ending in ("", "x"):
        name = word * 40 + ending
        assert not (part_of(name) and says_masks(name) and says_nothing(name))
    assert time.monotonic() - start < 1


def test_wording():
    assert few(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert (number(1, "class"), number(2000, "class")) == ("1 class", "2,000 classes")


# Parts


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_set", "test_set"),
        ("training_set", "test_set"),
        ("flowers_train", "flowers_test"),
        ("train2017", "test2017"),
    ],
)
def test_parts_are_told_by_their_names(tmp_path, train, test):
    files = [f"{part}/{label}/{i}.jpg" for part in (train, test) for label in "ab" for i in (1, 2)]
    found, notes = listed(tmp_path, *files)
    assert classes_of(found) == {"train": ["a", "b"], "test": ["a", "b"]}
    assert found["test"]["b"] == [f"{test}/b/1.jpg", f"{test}/b/2.jpg"]
    plain = (train, test) == ("TRAIN", "TEST")
    assert notes == ("" if plain else f"parts by their names: {train} as train, {test} as test")


def test_the_layout_of_intel_image_classification(tmp_path):
    parts = [f"seg_{p}/seg_{p}/{x}/1.jpg" for p in ("train", "test") for x in ("sea", "street")]
    found, notes = listed(tmp_path, *parts, "seg_pred/seg_pred/3.jpg", "seg_pred/seg_pred/4.jpg")
    assert classes_of(found) == {"train": ["sea", "street"], "test": ["sea", "street"]}
    assert "parts by their names: seg_train as train, seg_test as test" in notes
    assert "seg_train holds its data in seg_train/seg_train" in notes
    assert "seg_pred holds 2 images outside class folders" in notes
    assert f"tlkit predict RUN {tmp_path / 'seg_pred'} --csv labels.csv" in notes


TWO = ("a/1.jpg", "b/1.jpg")


def within(*parts: str) -> list[str]:
    return [f"{part}/{file}" for part in parts for file in TWO]


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "val", "validation"),
        ("train", "Training", "test"),
        ("train1", "train2", "test"),
        ("train", "test", "test_set"),
        ("train", "test", "holdout"),
    ],
)
def test_two_folders_for_one_part_are_refused(tmp_path, parts):
    text = refused(tmp_path, *within(*parts))
    assert "are two folders for the" in text
    assert f"Received: {', '.join(sorted(parts))}" in text


def test_a_strange_folder_beside_parts(tmp_path):
    found, notes = listed(tmp_path, *within("train", "test"), "docs/readme.txt", "unsup/1.jpg")
    assert classes_of(found) == {"train": ["a", "b"], "test": ["a", "b"]}
    assert "docs holds no image and is not used as a part" in notes
    assert "unsup holds 1 image outside class folders, without labels, and is not used as" in notes


@pytest.mark.parametrize("strange", ["tulips", "train_augmented", "trainval", "extra"])
def test_class_folders_beside_parts_that_are_none_are_refused(tmp_path, strange):
    text = refused(tmp_path, *within("train", "test", strange))
    assert f"it must hold parts: train, one of validation, val and valid, and test; move {strange}"
    assert text.endswith(f"Received: {', '.join(sorted(('train', 'test', strange)))}")


@pytest.mark.parametrize("part", ["test", "val", "Testing"])
@pytest.mark.parametrize("inner", ["", "test/", "images/", "unlabelled/"])
def test_a_part_without_labels_is_no_part(tmp_path, part, inner):
    found, notes = listed(tmp_path, *within("train"), *(f"{part}/{inner}{i}.jpg" for i in range(8)))
    assert list(found) == ["train"]
    assert "holds 8 images outside class folders, without labels, and is not used as" in notes
    assert "(one is split off, unless --" in notes
    assert f"to label them: tlkit predict RUN {tmp_path / part}" in notes


def test_a_part_with_one_class_is_one(tmp_path):
    assert classes_of(listed(tmp_path, *within("train"), "test/a/2.jpg")[0])["test"] == ["a"]


def test_a_part_that_is_empty_is_said(tmp_path):
    found, notes = listed(tmp_path, *within("train"), "test/", "val/notes.txt")
    assert list(found) == ["train"]
    assert "test holds no image and is not used as the test part" in notes
    assert "val holds no image and is not used as the validation part" in notes


def test_an_empty_second_folder_for_a_part_is_refused_too(tmp_path):
    assert "are two folders" in refused(tmp_path, *within("train", "val"), "validation/")


def test_a_vehicle_called_train(tmp_path):
    found, notes = listed(tmp_path, "car/1.jpg", "bus/1.jpg", "train/1.jpg")
    assert classes_of(found) == {"train": ["bus", "car", "train"]}
    assert notes == "train is taken for a class: it has no class folders"


@pytest.mark.parametrize("others", [("test",), ("validation", "test"), ()])
def test_parts_without_class_folders_are_refused(tmp_path, others):
    lay(tmp_path, "train/1.jpg", *(f"{part}/2.jpg" for part in others), "train/labels.csv")
    text = refused(tmp_path)
    assert f"data {tmp_path / 'train'}: needs one folder for each class" in text
    assert str(tmp_path / "train" / "labels.csv") in text
    assert "Received: 1 images outside class folders" in text


@pytest.mark.parametrize("names", [("valid", "invalid"), ("training", "resting"), ("dev", "ops")])
def test_classes_that_are_called_as_parts_are(tmp_path, names):
    found, notes = listed(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert classes_of(found) == {"train": sorted(names)}
    assert notes.startswith(f"{names[0]} is taken for a class: it ")


def test_test_and_val_without_train_are_classes_and_that_is_said(tmp_path):
    _, notes = listed(tmp_path, "test/1.jpg", "val/2.jpg")
    assert "test is taken for a class: it stands beside no training part" in notes
    text = refused(tmp_path / "deep", *within("test", "val"))
    assert "which level are the classes? test, val hold no images themselves" in text
    assert "val is taken for a class: it stands beside no training part" in text


# Parts inside classes


def test_parts_inside_classes_are_taken(tmp_path):
    files = [
        f"{x}/{p}/{i}.jpg" for x in ("circle", "square") for p in ("train", "Test") for i in (1, 2)
    ]
    found, notes = listed(tmp_path, *files, "circle/val/3.jpg")
    assert classes_of(found) == {
        "train": ["circle", "square"],
        "val": ["circle"],
        "test": ["circle", "square"],
    }
    assert found["test"]["square"] == ["square/Test/1.jpg", "square/Test/2.jpg"]
    assert notes == "the class folders hold train, val, Test: taken as parts"


def test_parts_inside_classes_may_stand_in_a_wrapper(tmp_path):
    files = [f"data/{x}/{p}/1.jpg" for x in "ab" for p in ("training", "testing")]
    assert classes_of(listed(tmp_path, *files)[0]) == {"train": ["a", "b"], "test": ["a", "b"]}


@pytest.mark.parametrize(
    "third",
    [
        ("c/1.jpg",),  # no parts
        ("c/test/1.jpg",),  # no training part
        ("c/train/1.jpg", "c/test/2.jpg", "c/3.jpg"),  # images beside
        ("c/train/1.jpg", "c/other/2.jpg"),
        ("c/deep/train/1.jpg",),
    ],
)
def test_parts_in_some_classes_are_refused(tmp_path, third):
    files = [f"{x}/{p}/1.jpg" for x in "ab" for p in ("train", "test")]
    text = refused(tmp_path, *files, *third)
    assert "sub-folders of classes are called as parts are, but not each class has" in text
    assert "beside it: c. Allowed: train, val and test folders in every class, or in none" in text


def test_two_folders_for_one_part_inside_a_class_are_refused(tmp_path):
    files = [f"{x}/{p}/1.jpg" for x in "ab" for p in ("train", "training")]
    assert "a/train, a/training are two folders for the training part" in refused(tmp_path, *files)


# Wrappers


@pytest.mark.parametrize(
    "outer", ["dataset", "dataset/dataset", "a/b/c/d", "flowers_train", "test"]
)
def test_wrappers_are_gone_into(tmp_path, outer):
    found, notes = listed(tmp_path, f"{outer}/rose/1.jpg", f"{outer}/tulip/1.jpg")
    assert found == {"train": {x: [f"{outer}/{x}/1.jpg"] for x in ("rose", "tulip")}}
    assert notes == f"the folder holds its data in {outer}: read from there"


def test_a_wrapper_around_parts(tmp_path):
    found, notes = listed(tmp_path, *(f"chest/{x}" for x in within("train", "val", "test")))
    assert classes_of(found) == {part: ["a", "b"] for part in ("train", "val", "test")}
    assert notes == "the folder holds its data in chest: read from there"


def test_train_alone_needs_no_word(tmp_path):
    found, notes = listed(tmp_path, *within("train"))
    assert (classes_of(found), notes) == ({"train": ["a", "b"]}, "")


def test_images_beside_annotations_are_a_wrapper(tmp_path):
    names = [f"Images/{x}/1.jpg" for x in ("husky", "pug")]
    found, notes = listed(tmp_path, *names, "Annotation/husky/1", "Annotation/pug/1")
    assert classes_of(found) == {"train": ["husky", "pug"]}
    assert "holds its data in Images: read from there; Annotation left aside" in notes


def test_the_only_class_with_images_is_no_wrapper(tmp_path):
    text = refused(tmp_path, "rose/batch1/1.jpg", "rose/batch2/1.jpg", "tulip/", "lily/1.dcm")
    assert "needs at least two classes" in text
    assert "lily holds no image (1 .dcm) and is left out as a class" in text
    assert "tulip holds no image and is left out as a class" in text


def test_a_wrapper_that_links_to_itself_ends(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert "needs at least two classes" in refused(tmp_path)


def test_links_are_followed_at_each_level_that_is_chosen_from(tmp_path):
    store = lay(tmp_path / "store", "rose/1.jpg", "tulip/1.jpg")
    for name in ("plain", "train", "outer/inner"):
        (tmp_path / name).mkdir(parents=True)
        for label in ("rose", "tulip"):
            (tmp_path / name / label).symlink_to(store / label, target_is_directory=True)
    (tmp_path / "parts").mkdir()
    for part in ("train", "test"):
        (tmp_path / "parts" / part).symlink_to(tmp_path / "plain", target_is_directory=True)
    for name in ("plain", "outer"):
        assert classes_of(listed(tmp_path / name)[0]) == {"train": ["rose", "tulip"]}
    assert set(listed(tmp_path / "parts")[0]) == {"train", "test"}


def test_a_class_that_is_a_broken_link_is_named(tmp_path):
    (lay(tmp_path, *TWO) / "c").symlink_to(tmp_path / "gone")
    (tmp_path / "a" / "deep").symlink_to(tmp_path / "gone")
    found, notes = listed(tmp_path)
    assert found["train"] == {"a": ["a/1.jpg", "a/deep"], "b": ["b/1.jpg"]}
    assert notes == "c holds no image and is left out as a class"


def test_paths_to_type_are_quoted(tmp_path):
    notes = listed(tmp_path / "my data", *within("train"), "test/1.jpg")[1]
    assert f"tlkit predict RUN '{tmp_path / 'my data' / 'test'}' --csv labels.csv" in notes


# Which level


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (("Entrenamiento", "Prueba"), ("circle", "square", "triangle")),
        (("10253", "10254", "10255"), ("0", "1")),
        (("2019", "2020"), ("cat", "dog")),
        (("cam1", "cam2", "cam3"), ("Cat", "cat2", "dog")),
        (("a/images", "b/images"), ("x", "y")),
    ],
)
def test_folders_that_all_hold_the_same_are_refused(tmp_path, outer, inner):
    text = refused(tmp_path, *(f"{o}/{i}/1.jpg" for o in outer for i in inner))
    first = [name.partition("/")[0] for name in outer]
    assert f"which level are the classes? {', '.join(first)} hold no images themselves" in text
    assert f"sub-folders of the same names: {', '.join(x.lower() for x in inner)}" in text
    # One may be the other once more, in grey: only what is called a part is said to be one.
    assert f"or given by themselves: tlkit train {tmp_path / first[0]}; a CSV file" in text


def test_most_of_the_folders_are_enough(tmp_path):
    files = [f"{p}/{x}/1.jpg" for p in range(10) for x in "01"]
    text = refused(tmp_path, *files, "10/0/1.jpg", "11/1/2.jpg", "12/3.jpg")
    assert "which level are the classes?" in text


def test_nested_classes_are_merged_and_that_is_said(tmp_path):
    files = ("animal/cat/1.jpg", "animal/dog/1.jpg", "plant/fern/1.jpg", "plant/moss/1.jpg")
    found, notes = listed(tmp_path, *files)
    assert classes_of(found) == {"train": ["animal", "plant"]}
    assert notes.startswith("4 sub-folders merged into 2 classes, such as animal/cat")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ("a/1.jpg", "a/more/2.jpg", "b/1.jpg"),
            "1 sub-folder merged into 1 class, such as a/more",
        ),
        (("a/x/1.jpg", "a/x/y/2.jpg", "b/1.jpg"), "2 sub-folders merged into 1 class, such as a/x"),
        (("a/images/1.jpg", "b/images/1.jpg"), ""),
        (("a/deep/er/1.jpg", "b/2.jpg"), ""),
    ],
)
def test_what_counts_as_merged(tmp_path, files, words):
    notes = listed(tmp_path, *files)[1]
    assert notes.startswith(words) if words else notes == ""


@pytest.mark.parametrize(
    "files",
    [
        ("images/1.jpg", "masks/1.png"),
        ("images/1.jpg", "annotations/trimaps/1.png"),
        ("train/images/1.jpg", "train/masks/1.png", "val/images/1.jpg", "val/masks/1.png"),
        ("JPEGImages/1.jpg", "SegmentationMasks/1.png"),
        ("data/img/1.jpg", "data/gt/1.png"),
        ("VOC2012/JPEGImages/1.jpg", "VOC2012/SegmentationClass/1.png", "VOC2012/x/1.png"),
        ("train/1.jpg", "train_masks/1.png", "test/2.jpg"),
        ("train_images/1.jpg", "train_masks/1.png"),
        ("leftImg8bit/train/aachen/1.png", "gtFine/train/aachen/1.png"),
        ("input/1.jpg", "target/1.png"),
        ("CameraRGB/1.png", "CameraMasks/1.png"),
        ("photos/1.jpg", "instance_annots/1.png"),
    ],
)
def test_images_beside_masks_are_no_classes(tmp_path, files):
    text = refused(tmp_path, *files)
    assert "a form of data for segmentation or detection, in which no image has a class" in text


@pytest.mark.parametrize(
    "files",
    [
        ("images/train/1.jpg", "images/val/1.jpg", "labels/train/1.txt", "labels/val/1.txt"),
        ("train/images/1.jpg", "train/labels/1.txt", "valid/images/1.jpg", "valid/labels/1.txt"),
        ("images/1.jpg", "labels/1.txt"),
    ],
)
def test_the_layouts_of_yolo_are_no_classes(tmp_path, files):
    text = refused(tmp_path, *files)
    assert "needs one folder for each class" in text
    assert "Received: 1 images outside class folders" in text


def test_masks_inside_classes_are_left_out(tmp_path):
    files = [f"{x}/{y}/1.png" for x in ("COVID", "Normal") for y in ("images", "masks")]
    found, notes = listed(tmp_path, *files)
    assert found == {"train": {x: [f"{x}/images/1.png"] for x in ("COVID", "Normal")}}
    assert notes == "2 images left out as masks of others: COVID/masks, Normal/masks"


def test_files_named_as_masks_of_images_beside_them_are_left_out(tmp_path):
    files = ["b/b (1).png", "b/b (1)_mask.png", "b/b (1)_mask_1.png", "m/7.jpg", "m/7-GT.png"]
    files += ["m/deep/2007_12.jpg", "m/deep/2007_12_segmentation.png"]
    found, notes = listed(tmp_path, *files)
    assert found == {"train": {"b": ["b/b (1).png"], "m": ["m/7.jpg", "m/deep/2007_12.jpg"]}}
    assert "4 images left out as masks of others by their names, such as b/b (1)_mask.png" in notes


@pytest.mark.parametrize(
    "files",
    [
        ("with_mask/with_mask_1.jpg", "no_mask/1.jpg"),  # of faces
        ("a/1.jpg", "a/1_aug.jpg", "b/2.jpg", "b/2_thumb.jpg"),
        ("a/1.jpg", "b/1_mask.jpg"),
        ("a/mask.jpg", "b/_mask.jpg", "b/1mask.jpg", "b/1.jpg"),
    ],
)
def test_other_names_are_no_masks(tmp_path, files):
    found, notes = listed(tmp_path, *files)
    assert sorted(x for own in found["train"].values() for x in own) == sorted(files)
    assert notes == ""


@pytest.mark.parametrize(
    "names",
    [
        ("images_001", "images_002", "images_010"),  # NIH's chest X-rays
        ("HAM10000_images_part_1", "HAM10000_images_part_2"),
        ("part1", "part2"),
        ("original", "cropped"),
        ("img", "seg"),
        ("images", "data"),
    ],
)
def test_folders_that_are_called_as_no_class_is_are_refused(tmp_path, names):
    text = refused(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert text == (
        f"data {tmp_path}: {', '.join(sorted(names))} are no names of classes, they say only that "
        "images are there. Allowed: a folder for each class, called as it; a CSV file with image "
        "and label columns"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("Sample001", "Sample002"),  # Chars74K
        ("class_1", "class_2"),
        ("Class 1-samples", "Class 2-samples"),  # of Teachable Machine
        ("car_part_1", "car_part_2"),
        ("raw", "cooked"),
        ("original", "fake"),
        ("photo", "drawing", "picture"),
        ("1", "2"),
    ],
)
def test_folders_that_may_be_called_as_classes_are(tmp_path, names):
    found, notes = listed(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert classes_of(found) == {"train": sorted(names)}
    assert notes == ""


def test_archives_beside_class_folders_are_named(tmp_path):
    notes = listed(tmp_path, *TWO, "c.zip", "d.tar.gz", "a/more.zip", "labels.csv")[1]
    assert notes == (
        "beside the class folders, not unpacked: 1 .gz, 1 .zip | files not looked at: 1 .zip"
    )


@pytest.mark.parametrize("above", [False, True])
def test_images_without_classes_beside_a_table(tmp_path, above):
    table = tmp_path / ("labels.csv" if above else "imgs/labels.csv")
    text = refused(tmp_path, "imgs/1.jpg", "imgs/2.jpg", str(table.relative_to(tmp_path)))
    assert f"for labels in a table {table}. Received: 2 images outside class folders" in text


def test_numbers_are_names_of_classes(tmp_path):
    assert classes_of(listed(tmp_path, "0/1.jpg", "1/1.jpg", "10/1.jpg")[0]) == {
        "train": ["0", "1", "10"]
    }


@pytest.mark.parametrize(
    "files",
    [
        ("rose/1.jpg", "tulip/1.jpg", "flowers/rose/1.jpg", "flowers/tulip/1.jpg"),
        ("a/1.jpg", "b/1.jpg", "c/1.jpg", "more/A/1.jpg", "more/b/1.jpg"),
    ],
)
def test_a_copy_of_the_classes_beside_them_is_refused(tmp_path, files):
    name = files[-1].partition("/")[0]
    text = refused(tmp_path, *files)
    assert f"{name} is a copy of the folders beside it, by their names; move it" in text


def test_one_folder_of_classes_beside_an_empty_one_says_what_to_give(tmp_path):
    text = refused(tmp_path, "101/ant/1.jpg", "101/bee/1.jpg", "notes/1.mat")
    assert f"for classes of their own, give {tmp_path / '101'}" in text
    assert "notes holds no image (1 .mat) and is left out as a class" in text


ASL = ("asl_train/asl_train/A/1.jpg", "asl_train/asl_train/B/1.jpg", "asl_test/asl_test/1.jpg")
CATS = [f"{p}/{p}/{x}/1.jpg" for p in ("training_set", "test_set") for x in ("cats", "dogs")]


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        (  # Tiny ImageNet
            ("train/n01/images/0.JPEG", "train/n02/images/0.JPEG", "val/images/1.JPEG"),
            {"train": ["n01", "n02"]},
        ),
        (  # Food-101
            ("images/pie/1.jpg", "images/tart/1.jpg", "meta/classes.txt"),
            {"train": ["pie", "tart"]},
        ),
        (  # Fruits 360
            ("f/Training/fig/1.jpg", "f/Training/kiwi/1.jpg", "f/Test/fig/2.jpg", "f/papers/a.pdf"),
            {"train": ["fig", "kiwi"], "test": ["fig"]},
        ),
        (  # CUB-200
            ("CUB/images/1.Finch/1.jpg", "CUB/images/2.Wren/1.jpg", "CUB/parts/parts.txt", "a.txt"),
            {"train": ["1.Finch", "2.Wren"]},
        ),
        (ASL, {"train": ["A", "B"]}),
        (CATS, {"train": ["cats", "dogs"], "test": ["cats", "dogs"]}),
    ],
)
def test_layouts_that_are_widely_used(tmp_path, files, classes):
    found, notes = listed(tmp_path, *files)
    assert classes_of(found) == classes
    assert notes


# Files


@pytest.mark.parametrize("head", [JPEG, PNG, GIF, WEBP, BMP])
@pytest.mark.parametrize("name", ["000", "photo.0001", "x.unknown", "IMG_1.jpg_large", "a.", "é"])
def test_a_file_without_a_known_ending_is_told_by_its_first_bytes(tmp_path, head, name):
    lay(tmp_path, "a/1.jpg", "b/")
    (tmp_path / "b" / name).write_bytes(head)
    found, notes = listed(tmp_path)
    assert (found["train"]["b"], notes) == ([f"b/{name}"], "")
    assert image_files(tmp_path / "b") == [tmp_path / "b" / name]


@pytest.mark.parametrize("head", [b"", b"BMW is no bitmap", b"RIFF....WAVE", b"\xff\xd8", b"x" * 9])
def test_other_files_are_counted(tmp_path, head):
    lay(tmp_path, *TWO)
    for name in ("a/x", "a/scan.dcm", "b/scan.DCM", "b/video.mp4"):
        (tmp_path / name).write_bytes(head)
    lay(tmp_path, "a/1.txt", "b/2.xml", "a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "top.txt")
    found, notes = listed(tmp_path)
    assert classes_of(found) == {"train": ["a", "b"]}
    said = notes.removeprefix("files not looked at: ")
    assert set(said.split(", ", 3)) == {
        *("1 without an ending", "2 .dcm", "1 .mp4", "2 companions (.txt, .xml)")
    }
    assert image_files(tmp_path) == [tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"]


@pytest.mark.parametrize("name", ["1.jpg~", "1.jpg.bak", "1.JPG_original", "1.jpg.orig", "1.jpg 2"])
def test_a_backup_beside_its_image_is_no_second_image(tmp_path, name):
    lay(tmp_path, *TWO)
    for label in ("a", "b"):
        (tmp_path / label / name).write_bytes(JPEG)
    (tmp_path / "b" / "1.jpg").unlink()
    found, notes = listed(tmp_path)
    assert found["train"] == {"a": ["a/1.jpg"], "b": [f"b/{name}"]}
    assert notes.startswith("files not looked at: 1 .")


def test_a_companion_is_never_opened(tmp_path):
    lay(tmp_path, *TWO)
    (tmp_path / "a" / "1.txt").write_bytes(JPEG)
    assert listed(tmp_path)[1] == "files not looked at: 1 companion (.txt)"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(lay(tmp_path, *TWO) / "a" / "pipe")
    assert listed(tmp_path)[1] == "files not looked at: 1 without an ending"


def test_an_empty_class_folder_is_named(tmp_path):
    found, notes = listed(tmp_path, *TWO, "c/", "d/1.dcm", "d/more/2.dcm", "d/3.txt")
    assert classes_of(found) == {"train": ["a", "b"]}
    assert "c holds no image and is left out as a class" in notes
    assert "d holds no image (2 .dcm, 1 companion (.txt)) and is left out as a class" in notes


def test_loose_images_beside_classes_are_counted(tmp_path):
    _, notes = listed(tmp_path, *TWO, *(f"{i}.jpg" for i in range(1200)))
    assert notes == "1,200 images outside class folders left out, such as 0.jpg"


@pytest.mark.parametrize("outer", ["data/", "train/", "images/"])
def test_loose_images_are_counted_at_each_level(tmp_path, outer):
    files = [f"{outer}{file}" for file in (*TWO, "4.jpg", "5.jpg")]
    found, notes = listed(tmp_path, *files, "1.jpg", "2.jpg", "3.jpg")
    assert classes_of(found) == {"train": ["a", "b"]}
    assert "3 images outside class folders left out, such as 1.jpg" in notes
    assert f"2 images outside class folders left out, such as {outer}4.jpg" in notes


def test_the_folder_of_one_class_says_what_to_give(tmp_path):
    text = refused(tmp_path, "1.jpg", "2.jpg")
    assert "for the folder of one class give the one above it" in text


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found", "System Volume Information"],
)
def test_what_systems_leave_behind_is_skipped_at_every_level(tmp_path, name):
    rubbish = [f"{p}{name}/x/1.jpg" for p in ("", "train/", "train/a/", "train/a/deep/")]
    found, notes = listed(
        tmp_path, *within("train", "test"), *rubbish, f"test/{name.upper()}/1.jpg"
    )
    assert found["train"] == {"a": ["train/a/1.jpg"], "b": ["train/b/1.jpg"]}
    assert notes == ""
    assert len(image_files(tmp_path)) == 4


def test_hidden_folders_with_images_are_named(tmp_path):
    found, notes = listed(tmp_path, *TWO, ".rose/1.jpg", "a/.old/1.jpg", ".empty/", ".git/1.png")
    assert classes_of(found) == {"train": ["a", "b"]}
    assert notes == "hidden folders with images in them left aside: .rose, a/.old"


def test_runs_beside_the_data_are_no_class(tmp_path):
    run = "runs/first"
    _, notes = listed(tmp_path, *TWO, f"{run}/spec.yaml", f"{run}/checkpoints/", f"{run}/c.png")
    assert notes == "runs holds no image and is left out as a class"


NAMES = ("train", "test", "Testing", "val", "x_train", "x_test", "seg_train")
NAMES += ("a", "b", "c", "images", "masks", "docs", "data")


def grow(folder: Path, random: Random, depth: int = 0) -> None:
    """Fill a folder at random with folders of the names that mean something, and images."""
    for name in random.sample(NAMES, random.choice((0, 1, 1, 2, 2, 3))) if depth < 4 else ():
        (folder / name).mkdir()
        grow(folder / name, random, depth + 1)
    if random.random() < (0.1, 0.3, 0.5, 0.8, 1.0)[depth]:
        lay(folder, *(f"{i}.jpg" for i in range(random.choice((1, 2)))))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_folder_each_image_is_listed_or_counted(tmp_path, seed):
    """Or the folder is refused; and no two folders become one class unsaid."""
    random = Random(seed)
    for number_ in range(10):
        root = tmp_path / str(number_)
        root.mkdir()
        grow(root, random)
        try:
            source = open_source(root)
        except DataError:
            continue
        ids = [e.id for part in source.parts.values() for e in part]
        left = {p.relative_to(root).as_posix() for p in root.rglob("*.jpg")} - set(ids)
        counts = re.findall(r"\b(\d+) images? (?:outside|left out)", " | ".join(source.notes))
        assert len(ids) == len(set(ids))
        assert sum(map(int, counts)) == len(left), source.notes
        for part in source.parts.values():
            folders = {(e.label, e.id.rpartition("/")[0]) for e in part}
            merged = len(folders) > len({label for label, _ in folders})
            assert merged <= any("merged into" in note for note in source.notes)


# Labels


@pytest.mark.parametrize(
    "names", [("Cat", "cat"), ("red apple", "red  apple"), ("STRASSE", "straße"), ("①", "1")]
)
def test_labels_much_alike_are_named_by_every_reader(tmp_path, names):
    _, notes = listed(tmp_path / "data", *(f"{name}/1.jpg" for name in (*names, "x")))
    assert notes.startswith("labels that differ only in case or blanks: ")
    assert notes.endswith("; if they are one class, give them one name")
    assert all(repr(name) in notes for name in names)
    table = tmp_path / "labels.csv"
    lines = ["image,label", *(f"data/{name}/1.jpg,{name}" for name in names)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert open_source(table).notes == (notes,)


@pytest.mark.parametrize("pair", [("größe", "gro\u0308ße"), ("cat", "cat "), (" é", "e\u0301")])
def test_names_that_look_the_same_are_refused(tmp_path, pair):
    text = refused(tmp_path, f"{pair[0]}/1.jpg", f"{pair[1]}/1.jpg")
    assert "names that cannot be told apart" in text


def test_forms_of_unicode_meet_across_parts_and_readers(tmp_path):
    one, other = (unicodedata.normalize(form, "größe é") for form in ("NFC", "NFD"))
    found, _ = listed(tmp_path, f"train/{one}/1.jpg", "train/b/1.jpg", f"test/{other}/1.jpg")
    assert found["test"] == {one: [f"test/{other}/1.jpg"]}
    table = tmp_path / "labels.csv"
    (tmp_path / "1.jpg").touch()
    table.write_text(f"image,label\n1.jpg,{one}\n2.jpg,{other}\n3.jpg,b\n", encoding="utf-8")
    assert open_source(table).outputs == ("b", one)


# Where the notes go


def test_notes_of_validation_and_test_data_are_said(tmp_path, image_folder):
    own = write_images(tmp_path / "own" / "wrapped", count=1, seed=5).parent
    source = open_source(image_folder, val=own, test=own)
    assert source.notes == tuple(
        f"{part}: the folder holds its data in wrapped: read from there" for part in ("val", "test")
    )
    examples, notes, _ = open_labelled(own, CLASSES)
    assert (len(examples), notes) == (3, [source.notes[0].removeprefix("val: ")])


def test_an_evaluation_prints_the_notes(tmp_path, tiny_run, capsys):
    own = write_images(tmp_path / "own" / "wrapped", count=1, seed=5).parent
    tiny_run.evaluate(own)
    assert "note      the folder holds its data in wrapped" in capsys.readouterr().out


def test_a_trailing_slash_and_a_dot_change_nothing(tmp_path, monkeypatch):
    lay(tmp_path / "flowers", *TWO)
    monkeypatch.chdir(tmp_path / "flowers")
    for data in (".", "../flowers/", str(tmp_path / "flowers") + "/"):
        source = open_source(data)
        assert (source.name, source.outputs) == ("flowers", ("a", "b"))
        assert [e.id for e in source.parts["train"]] == ["a/1.jpg", "b/1.jpg"]


def test_listing_thousands_is_quick(tmp_path):
    """4,000 take 0.02 s."""
    lay(tmp_path, *(f"{label}/{i}.jpg" for label in range(10) for i in range(100)))
    start = time.monotonic()
    assert len(open_source(tmp_path).parts["train"]) == 1000
    assert time.monotonic() - start < 5


# What train says


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> str:
    """What `plan` prints of a folder with much in it."""
    root = tmp_path_factory.mktemp("said")
    write_images(root / "data" / "training", count=8)
    square = root / "data" / "training" / "square"
    for i in range(6):
        (root / "data" / "training" / "stripes" / f"stripes0{i}.png").unlink()
    (square / "copy.png").write_bytes((square.parent / "disc" / "disc00.png").read_bytes())
    (square / "noname").write_bytes((square / "square00.png").read_bytes())
    (square / "broken.png").write_bytes(PNG)
    console = Progress()
    with console.console.capture() as caught:
        tlkit.plan(root / "data", regime="small", progress=console, **TINY)
    return caught.get()


def test_the_line_of_the_data_names_classes_and_what_is_left_out(said):
    assert "3 classes: disc, square, stripes; 1 file left out (scan.json)\n" in said
    assert "left out  training/square/broken.png: " in said


def test_what_is_suspicious_is_said_before_training(said):
    assert "note      parts by their names: training as train" in said
    assert (
        "labels    1 image stands in two classes, such as training/disc/disc00.png and "
        "training/square/copy.png; trained on, never measured"
    ) in said
    assert "imbalance square has 5 times as many as stripes (10 and 2); --set balance=weigh" in said


def test_scan_counts_files_without_an_ending(tmp_path):
    root = write_images(tmp_path / "data", count=2)
    for file in (root / "disc").iterdir():
        file.rename(file.with_suffix(""))
    (root / "square" / "scan.dcm").write_bytes(b"DICM")
    summary, *_ = scan_source(str(root), QUIET)
    assert summary["notes"] == ["files not looked at: 1 .dcm"]
    assert summary["files"]["usable"] == summary["files"]["given"] == 6
    assert summary["misnamed"] == []


def test_many_classes_are_not_all_named(tmp_path):
    root = tmp_path / "data"
    source = write_images(tmp_path / "few", count=6)
    for label in CLASSES:
        for name in ("x", "y"):
            (root / f"{label}{name}").mkdir(parents=True)
        for i, file in enumerate(sorted((source / label).iterdir())):
            file.rename(root / f"{label}{'xy'[i % 2]}" / file.name)
    console = Progress()
    with console.console.capture() as caught:
        tlkit.plan(root, regime="small", progress=console, **TINY)
    assert "6 classes: discx, discy, squarex, squarey, stripesx, ...\n" in caught.get()
