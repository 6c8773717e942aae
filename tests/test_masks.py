"""Folders of masks: which belong to which image, what their values mean, whether they fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tlkit.data.example import Example, FileLabel
from tlkit.data.mask_coding import COLOUR, class_numbers, code, values_in
from tlkit.data.mask_colours import blended, palette
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.readers.find_task import find_task
from tlkit.data.readers.mask_folders import read_mask_folders
from tlkit.data.readers.open import open_source
from tlkit.data.scan.scan import scan
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.spec.coding import Coding


def told(values, names=(), colours=None):
    coding, note = code(dict.fromkeys(values, 10), names, colours or {}, "data x")
    return list(coding.values), note


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 255], (), ["0=background", "255=foreground"]),
        ([0, 1], (), ["0=background", "1=foreground"]),
        ([0, 128], (), ["0=background", "128=foreground"]),
        ([0, 255], ("street", "car"), ["0=street", "255=car"]),
        ([0, 1, 2, 255], (), ["0=class 0", "1=class 1", "2=class 2", "255=void"]),
        ([1, 2, 3], (), ["1=class 1", "2=class 2", "3=class 3"]),
        ([1, 2, 3], ("pet", "ground", "edge"), ["1=pet", "2=ground", "3=edge"]),
        ([0, 2, 255], ("a", "b", "c"), ["0=a", "1=b", "2=c", "255=void"]),
    ],
    ids=str,
)
def test_pain_6_values_are_counted_before_they_are_taken_for_classes(values, names, expected):
    found, note = told(values, names)
    assert found == expected
    assert f"{values[0]} (" in note
    assert expected[-1] in note


@pytest.mark.parametrize(
    ("values", "names", "reason"),
    [
        ([0], (), "names the classes. Allowed: 2 to 255 beside void. Received: 1"),
        (range(90), (), "do not fit class numbers.*Received: 0 .1.1%."),
        ([0, 7], ("a", "b", "c"), "do not fit the 3 names of its classes"),
        ([0, COLOUR + 0xFF0000], (), "colours that nothing names.*Received: 0 .50.0%., ff0000"),
    ],
    ids=str,
)
def test_pain_6_values_that_say_nothing_are_refused_with_their_counts(values, names, reason):
    with pytest.raises(DataError, match=f"data x: .*{reason}"):
        told(values, names)


def test_trimaps_from_1_become_classes_from_0():
    numbers = class_numbers(Coding(("1=a", "2=b", "3=void")), np.array([[1, 2, 3]]), "x")
    assert numbers.tolist() == [[0, 1, 255]]
    with pytest.raises(DataError, match="x: holds values that stand for no class.*Received: 7"):
        class_numbers(Coding(("1=a", "2=b")), np.array([[1, 7]]), "x")


def test_colours_go_through_a_table_grey_ones_too():
    table = {"000000": "ground", "ff0000": "car"}
    found, note = told([COLOUR, COLOUR + 0xFF0000], colours=table)
    assert found == ["000000=ground", "ff0000=car"]
    assert "2 colours, as the table names them" in note
    coding = Coding(tuple(found))
    assert class_numbers(coding, np.array([[0, COLOUR + 0xFF0000]]), "x").tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "I;16", "1"])
def test_one_number_a_pixel_is_read_from_every_kind_of_file(mode, tmp_path):
    numbers = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(numbers * 255 if mode == "1" else numbers)
    if mode == "P":
        image.putpalette([9, 9, 9, 200, 0, 0])
    elif mode == "I;16":
        image = Image.fromarray(numbers.astype(np.uint16))
    elif mode != "L":
        image = image.convert(mode)
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        np.testing.assert_array_equal(values_in(read), numbers)


def test_overlays_leave_the_first_class_as_it_is_and_show_void_in_white():
    image = np.full((1, 3, 3), 100, np.uint8)
    drawn = blended(image, np.array([[0, 1, 255]], np.uint8))
    assert drawn.tolist() == [[[100, 100, 100], [114, 50, 50], [178, 178, 178]]]
    assert palette()[[1, 2, 3, 15]].tolist() == [[128, 0, 0], [0, 128, 0], [128, 128, 0],
                                                [192, 128, 128]]  # fmt: skip


# Folders


def write(folder, names, value=255, kind=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        pixels = np.zeros((12, 16), np.uint8)
        pixels[: 3 + i % 5, :8] = value
        Image.fromarray(pixels).save(folder / f"{name}{kind}")


def listed(root):
    listing = read_mask_folders(root, MaskTargets())
    return {
        part: [(e.id, e.label.path.relative_to(root).as_posix()) for e in own]
        for part, own in listing.parts.items()
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"), ("imgs", "mask"), ("images", "labels"), ("images", "annotations"),
        ("JPEGImages", "SegmentationClass"), ("leftImg8bit", "gtFine"),
        ("inner/images", "inner/masks"), ("CameraRGB", "CameraSeg_masks"),
    ],
)  # fmt: skip
def test_the_usual_names_of_folders_are_known(images, masks, tmp_path):
    write(tmp_path / images, ["a", "b"])
    write(tmp_path / masks, ["a", "b"])
    assert listed(tmp_path) == {"train": [(f"{images}/{x}.png", f"{masks}/{x}.png") for x in "ab"]}
    assert find_task(tmp_path) == "segmentation"


@pytest.mark.parametrize("inside", [True, False])
def test_parts_may_hold_images_and_masks_or_lie_in_both(inside, tmp_path):
    for part in ("train", "val", "test"):
        for kind in ("images", "masks"):
            write(tmp_path / (f"{part}/{kind}" if inside else f"{kind}/{part}"), [f"{part}1"])
    found = listed(tmp_path)
    assert list(found) == ["train", "val", "test"]
    assert [len(own) for own in found.values()] == [1, 1, 1]
    assert find_task(tmp_path) == "segmentation"


def test_masks_may_be_named_after_their_images(tmp_path):
    write(tmp_path / "images", ["car_1", "car_2"], kind=".jpg")
    write(tmp_path / "masks", ["car_1_mask", "car_2_mask", "other"])
    listing = read_mask_folders(tmp_path, MaskTargets())
    assert [e.label.path.name for e in listing.parts["train"]] == ["car_1_mask.png",
                                                                   "car_2_mask.png"]  # fmt: skip
    assert any("1 mask of no image left aside: masks/other.png" in note for note in listing.notes)


def test_images_without_a_mask_or_with_several_are_refused(tmp_path):
    write(tmp_path / "images", ["a", "b"])
    write(tmp_path / "masks", ["a"])
    with pytest.raises(DataError, match=r"1 image without a mask in masks.*Received: images/b.png"):
        listed(tmp_path)
    write(tmp_path / "masks", ["b", "b_mask"])
    with pytest.raises(DataError, match="1 image with several masks"):
        listed(tmp_path)


def test_masks_of_jpeg_and_folders_without_masks_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no images with masks beside them. Allowed: a fold"):
        listed(tmp_path)
    random = np.random.default_rng(0)
    write(tmp_path / "images", ["a"])
    (tmp_path / "masks").mkdir()
    noise = random.integers(0, 9, (12, 16), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "masks" / "a.jpg")
    with pytest.raises(DataError, match="masks saved as JPEG, which changes their values"):
        listed(tmp_path)
    (tmp_path / "masks" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of its masks can be read. Received: a.jpg"):
        listed(tmp_path)


def test_two_folders_of_masks_are_refused_but_voc_s(tmp_path):
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        write(tmp_path / name, ["a"])
    assert listed(tmp_path)["train"][0][1] == "SegmentationClass/a.png"
    write(tmp_path / "masks", ["a"])
    (tmp_path / "SegmentationClass").rename(tmp_path / "labels")
    with pytest.raises(DataError, match="holds several folders of masks"):
        listed(tmp_path)


def test_parts_that_lack_masks_are_refused(tmp_path):
    write(tmp_path / "train" / "images", ["a"])
    write(tmp_path / "train" / "masks", ["a"])
    write(tmp_path / "val" / "images", ["b"])
    with pytest.raises(DataError, match="the val part holds no images with masks"):
        listed(tmp_path)
    write(tmp_path / "x" / "images" / "train", ["a"])
    write(tmp_path / "x" / "images" / "test", ["b"])
    write(tmp_path / "x" / "masks" / "train", ["a"])
    with pytest.raises(DataError, match="lacks the folders that images has.*Received: no test"):
        listed(tmp_path / "x")


def test_two_folders_of_a_part_are_refused_and_what_is_not_used_is_said(tmp_path):
    for part in ("train", "training"):
        write(tmp_path / part / "images", ["a"])
        write(tmp_path / part / "masks", ["a"])
    with pytest.raises(DataError, match="two folders for the train part.*Received: train, train"):
        listed(tmp_path)
    (tmp_path / "training").rename(tmp_path / "train" / "edges")
    notes = read_mask_folders(tmp_path, MaskTargets()).notes
    assert any("2 images in other folders left aside: train/edges/images/a" in x for x in notes)


def test_names_of_classes_are_read_from_files(tmp_path):
    write(tmp_path / "images", ["a"])
    write(tmp_path / "masks", ["a"], value=2)
    (tmp_path / "classes.txt").write_text("ground\ncar\nman\n")
    source = open_source(str(tmp_path), targets=MaskTargets())
    assert source.outputs == ("ground", "car", "man")
    assert source.settled == {"mask_values": ["0=ground", "1=car", "2=man"]}
    (tmp_path / "classes.txt").unlink()
    colours = np.zeros((12, 16, 3), np.uint8)
    colours[:4] = (64, 128, 64)
    Image.fromarray(colours).save(tmp_path / "masks" / "a.png")
    for name, text in (
        ("class_dict.csv", "name,r,g,b\nVoid road,0,0,0\nAnimal,64,128,64\n"),
        ("label_colors.txt", "0 0 0\t\tVoid road\n64 128 64\tAnimal\n"),
    ):
        (tmp_path / name).write_text(text)
        source = open_source(str(tmp_path), targets=MaskTargets())
        assert source.outputs == ("Void road", "Animal")
        (tmp_path / name).unlink()
    given = MaskTargets(coding=Coding(("000000=ground", "408040=void", "ffffff=car")))
    assert open_source(str(tmp_path), targets=given).outputs == ("ground", "car")


def test_another_part_may_not_have_other_values(tmp_path):
    write(tmp_path / "one" / "images", ["a", "b", "c"])
    write(tmp_path / "one" / "masks", ["a", "b", "c"])
    write(tmp_path / "two" / "images", ["d"])
    write(tmp_path / "two" / "masks", ["d"], value=3)
    with pytest.raises(DataError, match="mask_values does not name.*Received: 3"):
        open_source(str(tmp_path / "one"), test=str(tmp_path / "two"), targets=MaskTargets())


@pytest.mark.parametrize("layout", ["empty", "classes", "text"])
def test_other_folders_are_of_no_such_task(layout, tmp_path):
    if layout == "classes":
        write(tmp_path / "train" / "cat", ["a"])
        write(tmp_path / "train" / "dog", ["a"])
    elif layout == "text":  # YOLO's form
        write(tmp_path / "images", ["a"])
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
    assert find_task(tmp_path) == ("detection" if layout == "text" else None)
    assert find_task(tmp_path / "gone") is None
    assert find_task(None) is None


# Sizes, and images that are turned


def found(tmp_path, image, mask, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.effect_noise(image, 50).convert("RGB").save(tmp_path / "image.png", exif=exif)
    Image.new("L", mask).save(tmp_path / "mask.png")
    label = FileLabel(tmp_path / "mask.png")
    return scan([Example("image.png", label, path=tmp_path / "image.png")], Progress(quiet=True))


@pytest.mark.parametrize(
    ("image", "mask", "resized"),
    [((48, 40), (48, 40), 0), ((48, 40), (24, 20), 1), ((612, 408), (577, 385), 1)],
)
def test_masks_of_the_same_aspect_fit_and_those_of_another_size_are_counted(
    image, mask, resized, tmp_path
):
    made = found(tmp_path, image, mask)
    assert made.left_out == {}
    assert made.labels["image.png"].shape == image[::-1]
    assert len(made.resized) == resized


@pytest.mark.parametrize(
    ("image", "mask", "turn", "reason"),
    [
        ((48, 40), (40, 48), 1, "its mask mask.png is of 40 x 48 pixels, the image of 48 x 40"),
        ((48, 40), (48, 39), 1, "its mask mask.png is of 48 x 39 pixels"),
        ((48, 40), (48, 40), 6, "of 48 x 40 as stored, but it is turned by its EXIF orientation"),
        ((40, 40), (40, 40), 6, "whether its mask mask.png is meant for the image as stored"),
        ((48, 40), (48, 40), 3, "whether its mask mask.png is meant for the image as stored"),
    ],
)
def test_pain_12_a_mask_that_does_not_fit_the_image_as_shown_is_left_out(
    image, mask, turn, reason, tmp_path
):
    made = found(tmp_path, image, mask, turn)
    assert reason in made.left_out["image.png"]
    assert made.labels == {}


def test_pain_12_the_mask_of_a_turned_image_that_fits_it_upright_is_used(tmp_path):
    made = found(tmp_path, (48, 40), (40, 48), 6)
    assert made.left_out == {}
    assert made.labels["image.png"].shape == (48, 40)
