"""Polygons and run lengths, drawn as masks: COCO, YOLO, and VOC's SegmentationClass."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from pycocotools import mask as oracle
from test_segmentation import fields, write_net

import tlkit
from tlkit.cli.main import main
from tlkit.data.annotations import Annotations, Box
from tlkit.data.mask_coding import class_numbers, values_in
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.readers.find_task import find_task
from tlkit.data.readers.open import open_listing, open_source
from tlkit.data.regions import draw_regions, rle_of
from tlkit.errors import DataError
from tlkit.spec.coding import Coding

WIDTH, HEIGHT = 48, 40


def drawn(*boxes, height=HEIGHT, width=WIDTH):
    label = Annotations(tuple(boxes), height, width)
    return draw_regions(label, range(1, len(boxes) + 1), 0, height, width)


def boxed(*outline, rle=None):
    return Box("a", (0, 0, 1, 1), outline=tuple(map(tuple, outline)), rle=rle)


# Pixels


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_give_the_pixels_of_pycocotools(compressed):
    random = np.random.default_rng(0)
    for fraction in (0.0, 0.03, 0.5, 1.0):
        pixels = np.asfortranarray(random.random((23, 17)) < fraction, dtype=np.uint8)
        counts = oracle.encode(pixels)["counts"].decode()
        if not compressed:
            flat = pixels.ravel(order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
            counts = np.diff([0, *edges, flat.size]).tolist()
        rle = rle_of({"size": [23, 17], "counts": counts}, "x")
        np.testing.assert_array_equal(drawn(boxed(rle=rle), height=23, width=17), pixels)


def test_polygons_give_the_pixels_of_pycocotools_inside_and_across_the_edge():
    random = np.random.default_rng(0)
    for i in range(60):
        points = random.uniform(-15, 60, (2, 2 * int(random.integers(3, 8))))
        points = points.round(i % 4) * (0.3 if i % 3 == 0 else 1)
        whole = oracle.decode(oracle.merge(oracle.frPyObjects(points.tolist(), HEIGHT, WIDTH)))
        np.testing.assert_array_equal(drawn(boxed(*points)), whole)


def test_smaller_objects_are_drawn_over_larger_ones_whatever_their_order():
    large, small = (0, 0, 20, 0, 20, 20, 0, 20), (5, 5, 9, 5, 9, 9, 5, 9)
    found = drawn(boxed(small), boxed(large))
    assert (found[6, 6], found[15, 15], found[30, 30]) == (1, 2, 0)
    assert (found == 1).sum() == 16


def test_a_polygon_that_runs_far_away_takes_no_more_than_its_image():
    assert drawn(boxed((0, 0, 1e12, 0, 1e12, 1e12, 0, 1e12))).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"size": [4, 4], "counts": [3, 4]}, "counts: .*cover the 16 pixels.*Received: 7 pixels"),
        ({"size": [4, 4], "counts": [-1, 17]}, "counts: Allowed"),
        ({"size": [4, 4], "counts": "~~~"}, "counts: Allowed"),
        ({"size": [4, 4], "counts": "o"}, "counts: Allowed"),
        ({"size": [4, 4], "counts": None}, "counts: Allowed"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, r"size: Allowed: \[height, width\]"),
        ({"size": [4], "counts": [4]}, r"size: Allowed: \[height, width\]"),
        ({"counts": [4]}, r"size: Allowed: \[height, width\]"),
    ],
    ids=str,
)
def test_run_lengths_that_cannot_be_meant_are_refused(value, message):
    with pytest.raises(DataError, match=f"x: segmentation: {message}"):
        rle_of(value, "x")


# Forms of one set: a red triangle or a blue one with a hole on noise


def shapes(count, seed=0):
    random = np.random.default_rng(seed)
    for i in range(count):
        noise = Image.fromarray(random.integers(0, 80, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        x, y, side = (int(v) for v in random.integers((0, 0, 16), (24, 14, 24)))
        polygon = [x, y, x + side, y, x + side, y + side]
        name = ("blue", "red")[i % 2]
        ImageDraw.Draw(noise).polygon(polygon, (220, 40, 40) if i % 2 else (40, 40, 220))
        yield f"{i:02d}", noise, name, polygon


PARTS = {"train": 10, "val": 3, "test": 3}


def as_coco(folder, ids=((0, "blue"), (7, "red"), (9, "blue")), rle=False, **more):
    """Write the set as COCO, a JSON file for each part; return the masks by part and stem."""
    masks = {}
    for seed, (part, count) in enumerate(PARTS.items()):
        (folder / part).mkdir(parents=True)
        content = {"images": [], "annotations": [],
                   "categories": [{"id": i, "name": n} for i, n in ids]}  # fmt: skip
        number = {name: id_ for id_, name in ids}
        for i, (stem, image, name, polygon) in enumerate(shapes(count, seed)):
            image.save(folder / part / f"{stem}.png")
            content["images"].append(
                {"id": i, "file_name": f"{stem}.png", "height": HEIGHT, "width": WIDTH}
            )
            area = oracle.merge(oracle.frPyObjects([polygon], HEIGHT, WIDTH))
            pixels = oracle.decode(area)
            masks[part, stem] = pixels * (1 + (name == "red"))
            area = {"size": [HEIGHT, WIDTH], "counts": area["counts"].decode()}
            content["annotations"].append({
                "id": i, "image_id": i, "category_id": number[name],
                "bbox": oracle.toBbox(area).tolist(),
                "segmentation": area if rle else [polygon], **more,
            })  # fmt: skip
        (folder / part / "annotations.json").write_text(json.dumps(content))
    return masks


def as_masks(coco, folder, masks):
    for (part, stem), pixels in masks.items():
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(coco / part / f"{stem}.png", folder / part / "images")
        Image.fromarray(pixels).save(folder / part / "masks" / f"{stem}.png")
    (folder / "classes.txt").write_text("background\nblue\nred\n")
    return folder


def as_voc(coco, folder, masks):
    for kind in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    stems = {}
    for (part, stem), pixels in masks.items():
        stems.setdefault(part, []).append(f"{part}_{stem}")
        target = folder / "JPEGImages" / f"{part}_{stem}.png"
        shutil.copy(coco / part / f"{stem}.png", target)
        mask = Image.fromarray(pixels)
        mask.putpalette([0, 0, 0, 0, 0, 200, 200, 0, 0])
        mask.save(folder / "SegmentationClass" / target.name)
    for part, own in stems.items():
        (folder / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(own))
    names = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nblue:0,0,200::\nred:200,0,0::\n"
    (folder / "labelmap.txt").write_text(names)
    Image.new("RGB", (9, 9)).save(folder / "JPEGImages" / "other.png")
    return folder


def numbers_of(listing):
    """Return the class numbers of all masks, by part and stem."""
    found = {}
    coding = listing.targets.coding
    for part, examples in listing.parts.items():
        for e in examples:
            with Image.open(io.BytesIO(e.label.read())) as image:
                own = class_numbers(coding, values_in(image), e.id)
            found[part, e.path.stem.removeprefix(f"{part}_")] = own
    return found


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms") / "coco"
    return folder, as_coco(folder)


def test_every_form_of_one_set_gives_equal_masks(coco, tmp_path):
    folder, masks = coco
    as_coco(tmp_path / "rle", rle=True)
    forms = [folder, tmp_path / "rle", as_masks(folder, tmp_path / "masks", masks),
             as_voc(folder, tmp_path / "voc", masks)]  # fmt: skip
    for form in forms:
        assert find_task(form) == "segmentation", form
        listing = open_listing(str(form), MaskTargets())
        assert listing.targets.coding.classes == ("background", "blue", "red"), form
        found = numbers_of(listing)
        assert found.keys() == masks.keys()
        for key, pixels in masks.items():
            np.testing.assert_array_equal(found[key], pixels, err_msg=f"{form} {key}")
    assert any(
        "1 image left out, in no list of ImageSets/Segmentation: JPEGImages/other.png" in note
        for note in listing.notes
    )


@pytest.fixture(scope="module")
def trained(coco, tmp_path_factory):
    """Return a function of a form's folder to its run, and the folder of each form."""
    folder, masks = coco
    place = tmp_path_factory.mktemp("trained")
    net = write_net(place)
    forms = {"coco": folder, "again": folder, "masks": as_masks(folder, place / "m", masks),
             "voc": as_voc(folder, place / "v", masks)}  # fmt: skip

    def train(form):
        more = {"epochs": 1, "augmented_copies": 0, "regime": "small"}
        return tlkit.train(forms[form], out=place / f"run-{form}", **{**fields(net), **more})

    return train, forms


def test_a_run_on_one_form_measures_the_same_on_every_other(trained):
    train, forms = trained
    run = train("coco")
    assert run.labels == ("background", "blue", "red")
    assert run.spec.mask_values == ["0=background", "1=blue", "2=red"]
    own = run.evaluate(progress=False)
    assert own["examples"] == 3
    assert own["mean_iou"] == run.metrics["test"]["mean_iou"]
    for name, path in forms.items():
        found = run.evaluate(path, progress=False)
        assert found["confusion"] == own["confusion"], name


@pytest.mark.full
def test_the_forms_of_one_set_train_to_equal_numbers(trained):
    train, _ = trained
    found = [train(form).metrics["test"] for form in ("again", "masks", "voc")]
    assert found[0] == found[1] == found[2]


def test_what_was_made_of_annotations_is_said(coco):
    folder, _ = coco
    result = CliRunner().invoke(main, ["data", "scan", str(folder)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "outlines are read from COCO JSON: the task is segmentation" in text
    assert "the box around each: --set task=detection" in text
    assert "outlines are drawn as masks, smaller objects over larger ones: background (" in text
    assert "categories 0 and 9 have one name, blue: they are one class" in text
    assert "instances are not there yet" in text
    boxes = CliRunner().invoke(main, ["data", "scan", str(folder), "--set", "task=localisation"])
    assert boxes.exit_code == 0, boxes.output
    assert "16 boxes in 16 images" in " ".join(boxes.output.split())


def test_tasks_that_are_not_there_yet_are_refused_in_a_sentence(coco):
    result = CliRunner().invoke(main, ["plan", str(coco[0]), "--set", "task=instances"])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "task: tells several objects of one class apart, which is not there yet. Allowed" in said
    assert said.endswith("Received: 'instances'")


def changed(coco, folder, change):
    """Copy the set and change what the JSON of its training part says."""
    shutil.copytree(coco[0], folder)
    file = folder / "train" / "annotations.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return folder


def notes_of(folder):
    return open_listing(str(folder), MaskTargets())


def test_pain_3_crowds_are_areas_of_their_class(coco, tmp_path):
    folder = changed(coco, tmp_path / "x", lambda c: c["annotations"][0].update(iscrowd=1))
    listing = notes_of(folder)
    assert "1 crowd regions (iscrowd) are areas of their class" in listing.notes
    np.testing.assert_array_equal(numbers_of(listing)["train", "00"], coco[1]["train", "00"])


def test_the_box_of_an_object_without_an_outline_is_void(coco, tmp_path):
    folder = changed(
        coco, tmp_path / "x",
        lambda c: c["annotations"][0].update(segmentation=[], bbox=[2, 3, 10, 5]),
    )  # fmt: skip
    listing = notes_of(folder)
    assert "1 object without an outline: the pixels of its box are void" in listing.notes
    assert listing.targets.coding.values[-1] == "255=void"
    own = numbers_of(listing)["train", "00"]
    assert (own == 255).sum() == 50
    assert (own[3:8, 2:12] == 255).all()


def test_an_image_without_objects_is_background_and_named(coco, tmp_path):
    folder = changed(coco, tmp_path / "x", lambda c: c["annotations"].pop(0))
    listing = notes_of(folder)
    assert "1 image without objects, all background: train/00.png" in listing.notes
    assert not numbers_of(listing)["train", "00"].any()


def test_where_all_is_covered_there_is_no_background(tmp_path):
    as_coco(tmp_path / "x")
    for part in PARTS:
        file = tmp_path / "x" / part / "annotations.json"
        content = json.loads(file.read_text())
        for image in content["images"]:
            corners = [-1, -1, 99, -1, 99, 99, 40, 99, -1, 99]
            content["annotations"].append(
                {"id": 50 + image["id"], "image_id": image["id"], "category_id": 7,
                 "segmentation": [corners]}
            )  # fmt: skip
        file.write_text(json.dumps(content))
    assert open_source(str(tmp_path / "x"), targets=MaskTargets()).outputs == ("blue", "red")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "annotation 0: segmentation: Allowed: polygons"),
        ({"segmentation": [[1, 2, 3, 4, 5, "a"]]}, "annotation 0: segmentation: must be a number"),
        ({"segmentation": [7]}, "annotation 0: segmentation: Allowed: polygons"),
        (
            {"segmentation": {"size": [4, 4], "counts": [16]}},
            r"annotation 0: segmentation: size: Allowed: that of its image, \[40, 48\]",
        ),
    ],
    ids=str,
)
def test_broken_outlines_are_refused_with_their_id(change, message, coco, tmp_path):
    folder = changed(coco, tmp_path / "x", lambda c: c["annotations"][0].update(change))
    with pytest.raises(DataError, match=message):
        notes_of(folder)


def test_boxes_alone_are_no_masks(tmp_path):
    as_coco(tmp_path / "x", segmentation=[])
    assert find_task(tmp_path / "x") == "localisation"
    with pytest.raises(DataError, match="no object has an outline.*--set task=localisation"):
        notes_of(tmp_path / "x")


def test_polygons_that_are_rectangles_say_no_more_than_boxes():
    assert not boxed((1, 2, 5, 2, 5, 8, 1, 8)).outlined
    assert boxed((1, 2, 5, 2, 5, 8)).outlined
    assert not Box("a", (0, 0, 1, 1)).outlined


def test_masks_of_a_turned_image_that_are_meant_as_stored_are_left_out(coco, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(coco[0], folder)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "train" / "00.png") as image:
        image.load()
    image.save(folder / "train" / "00.png", exif=exif)
    result = CliRunner().invoke(main, ["data", "scan", str(folder)])
    text = " ".join(result.output.split())
    assert "its outlines are of 48 x 40 pixels, the image of 48 x 40 as stored, but it is" in text


def test_an_image_given_more_pixels_than_any_may_have_is_refused(coco, tmp_path):
    def change(content):
        content["images"][0] |= {"height": 10**6, "width": 10**6}

    with pytest.raises(DataError, match="gives? it 1000000 x 1000000 pixels"):
        notes_of(changed(coco, tmp_path / "x", change))


def test_sizes_that_are_not_given_are_those_of_the_image(coco, tmp_path):
    def change(content):
        for image in content["images"]:
            del image["height"], image["width"]

    found = numbers_of(notes_of(changed(coco, tmp_path / "x", change)))
    np.testing.assert_array_equal(found["train", "03"], coco[1]["train", "03"])


def test_classes_that_a_run_does_not_have_are_refused(coco):
    with pytest.raises(DataError, match="mask_values does not name. Allowed.*Received: blue"):
        open_listing(str(coco[0]), MaskTargets(coding=Coding(("0=background", "3=red"))))
    with pytest.raises(DataError, match="no value for pixels in no object"):
        open_listing(str(coco[0]), MaskTargets(coding=Coding(("1=blue", "3=red"))))


@pytest.mark.parametrize("values", [("000000=background", "0000ff=blue", "ff0000=red"),
                                    ("7=background", "300=blue", "9=red")])  # fmt: skip
def test_masks_take_the_values_that_are_asked_for(values, coco):
    listing = open_listing(str(coco[0]), MaskTargets(coding=Coding(values)))
    found = numbers_of(listing)
    for key, pixels in coco[1].items():
        np.testing.assert_array_equal(found[key], pixels)


# YOLO


def as_yolo(folder, boxes=False):
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    masks = {}
    for stem, image, name, polygon in shapes(8):
        image.save(folder / "images" / f"{stem}.png")
        values = [v / (HEIGHT if i % 2 else WIDTH) for i, v in enumerate(polygon)]
        line = f"{('blue', 'red').index(name)} {' '.join(f'{v:.9f}' for v in values)}\n"
        if boxes:
            line += "1 0.5 0.5 0.25 0.2\n"
        (folder / "labels" / f"{stem}.txt").write_text(line)
        masks[stem] = oracle.decode(oracle.merge(oracle.frPyObjects([polygon], HEIGHT, WIDTH))) * (
            1 + (name == "red")
        )
    (folder / "data.yaml").write_text("names: [blue, red]\n")
    return masks


def test_polygons_of_yolo_are_masks_too(tmp_path):
    masks = as_yolo(tmp_path)
    assert find_task(tmp_path) == find_task(tmp_path / "data.yaml") == "segmentation"
    listing = open_listing(str(tmp_path), MaskTargets())
    assert any("outlines are read from YOLO text" in note for note in listing.notes)
    for (_, stem), own in numbers_of(listing).items():
        np.testing.assert_array_equal(own, masks[stem])


def test_boxes_of_yolo_beside_polygons_are_void(tmp_path):
    as_yolo(tmp_path, boxes=True)
    listing = open_listing(str(tmp_path), MaskTargets())
    assert "8 objects without an outline: the pixels of its box are void" in listing.notes


# VOC


def test_voc_lists_without_a_training_part_are_refused(coco, tmp_path):
    folder = as_voc(coco[0], tmp_path / "v", coco[1])
    (folder / "ImageSets" / "Segmentation" / "train.txt").unlink()
    with pytest.raises(DataError, match="ImageSets/Segmentation names no image for training"):
        notes_of(folder)


def test_colours_of_a_label_map_are_read(coco, tmp_path):
    folder = as_voc(coco[0], tmp_path / "v", coco[1])
    for file in (folder / "SegmentationClass").iterdir():
        with Image.open(file) as image:
            rgb = image.convert("RGB")
        rgb.save(file)
    found = numbers_of(notes_of(folder))
    np.testing.assert_array_equal(found["train", "00"], coco[1]["train", "00"])
