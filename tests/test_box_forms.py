"""Boxes in the forms that people have them in: a table, Pascal VOC, COCO, YOLO."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_localisation import scanned, write_boxes, write_voc

from tlkit.cli.main import main
from tlkit.data.box_targets import BoxTargets
from tlkit.data.readers.find_task import find_task
from tlkit.data.readers.open import open_listing, open_source
from tlkit.errors import DataError
from tlkit.tasks.localisation import Localisation

NAMES, SIZE = ("blue", "red"), (64, 48)


def rows_of(table):
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(r["image"], r["label"], [float(r[x]) for x in ("x1", "y1", "x2", "y2")]) for r in rows]


def as_voc(rows, folder):
    for image, name, box in rows:
        path = folder / image
        write_voc(path.with_suffix(".xml"), SIZE, name, [int(x) for x in box])


def as_coco(rows, folder, categories=((1, "blue"), (7, "red")), **more):
    ids = {name: id_ for id_, name in categories}
    images, annotations = [], []
    for i, (image, name, (x1, y1, x2, y2)) in enumerate(rows):
        width, height = SIZE
        images.append({"id": 10 + i, "file_name": image, "width": width, "height": height})
        box = [x1, y1, x2 - x1, y2 - y1]
        annotations.append(
            {"id": i, "image_id": 10 + i, "category_id": ids[name], "bbox": box, **more}
        )
    content = {
        "images": images, "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in categories],
    }  # fmt: skip
    (folder / "boxes.json").write_text(json.dumps(content))
    return content


def as_yolo(rows, folder, polygon=False):
    (folder / "labels").mkdir()
    for image, name, (x1, y1, x2, y2) in rows:
        width, height = SIZE
        left, top, right, low = x1 / width, y1 / height, x2 / width, y2 / height
        values = [(left + right) / 2, (top + low) / 2, right - left, low - top]
        if polygon:
            values = [left, top, right, top, right, low, left, low]
        line = f"{NAMES.index(name)} {' '.join(f'{v:.9f}' for v in values)}\n"
        (folder / "labels" / f"{image.split('/')[1][:-4]}.txt").write_text(line)
    (folder / "data.yaml").write_text("train: ../train/images\nnames: [blue, red]\n")


FORMS = {"voc": as_voc, "coco": as_coco, "yolo": as_yolo}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_boxes(tmp_path_factory.mktemp("forms") / "csv", 12)


@pytest.fixture
def images(table, tmp_path):
    """A folder with the images alone."""
    shutil.copytree(table.parent / "images", tmp_path / "data" / "images")
    return tmp_path / "data"


def encoded(data):
    source, _, examples = scanned(data)
    task = Localisation(source.outputs)
    return source.outputs, [e.id for e in examples], task.encode([e.label for e in examples])[:]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_set_gives_equal_numbers(form, table, images):
    FORMS[form](rows_of(table), images)
    outputs, ids, rows = encoded(table)
    found = encoded(images)
    assert found[:2] == (outputs, ids)
    np.testing.assert_allclose(found[2], rows, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_task_is_found_from_the_data_and_said(form, table, images):
    FORMS[form](rows_of(table), images)
    result = CliRunner().invoke(main, ["data", "scan", str(images)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "the task is localisation; another: --set task=NAME" in text
    assert "12 boxes in 12 images" in text


def test_a_file_alone_may_be_the_data(table, images):
    as_coco(rows_of(table), images)
    assert len(open_listing(str(images / "boxes.json"), BoxTargets()).parts["train"]) == 12
    result = CliRunner().invoke(main, ["data", "scan", str(images / "boxes.json")])
    assert result.exit_code == 0, result.output


def test_parts_are_those_of_folders_and_of_image_sets(table, images):
    as_voc(rows_of(table), images)
    sets = images / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    stems = [f"{i:02d}" for i in range(12)]
    for part, own in (("train", stems[:8]), ("val", stems[8:10]), ("test", stems[10:11])):
        (sets / f"{part}.txt").write_text("\n".join(own))
    listing = open_listing(str(images), BoxTargets())
    assert {part: len(own) for part, own in listing.parts.items()} == {
        "train": 8, "val": 2, "test": 1
    }  # fmt: skip
    assert any("1 image left out: in no list of ImageSets/Main" in note for note in listing.notes)
    (sets / "test.txt").write_text("00")
    with pytest.raises(DataError, match="00 stands in two parts, train and test"):
        open_listing(str(images), BoxTargets())


def test_pain_1_images_without_annotations_are_asked_about_and_named(table, images):
    as_voc(rows_of(table), images)
    (images / "images" / "03.xml").unlink()
    listing = open_listing(str(images), BoxTargets())
    assert len(listing.parts["train"]) == 11
    told = next(note for note in listing.notes if "without annotations" in note)
    assert told.startswith("1 image without annotations left out: whether they show no object")
    assert told.endswith("images/03.png")


def test_pain_3_classes_are_known_by_name_whatever_their_ids(table, images):
    rows = rows_of(table)
    as_coco(rows, images, ((0, "unused"), (3, "blue"), (90, "red"), (91, "blue")))
    source = open_source(str(images), targets=BoxTargets())
    assert source.outputs == ("blue", "red")
    assert "categories 3 and 91 have one name, blue: they are one class" in source.notes


def test_pain_3_crowds_are_no_objects(table, images):
    content = as_coco(rows_of(table), images)
    content["annotations"].append({**content["annotations"][0], "id": 99, "iscrowd": 1})
    (images / "boxes.json").write_text(json.dumps(content))
    source = open_source(str(images), targets=BoxTargets())
    assert "1 crowd regions (iscrowd) left out: no single objects" in source.notes


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt", "none"])
def test_pain_4_names_of_yolo_classes_are_read_or_asked_for(names, table, images):
    as_yolo(rows_of(table), images)
    if names != "data.yaml":
        (images / "data.yaml").unlink()
    if names == "classes.txt":
        (images / "labels" / "classes.txt").write_text("blue\nred\n")
    if names == "none":
        with pytest.raises(DataError, match=r"nothing names the classes.*Received: ids 0 \(\d"):
            open_listing(str(images), BoxTargets())
    else:
        assert open_source(str(images), targets=BoxTargets()).outputs == ("blue", "red")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 1: class: the names have none of this number. Allowed: 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "line 1: class: the names have none"),
        ("0 30 20 10 10", "holds fractions of width and height. Allowed: 0 to 1. Received: 30"),
        ("0 0.5 0.5 0.1", "line 1: Allowed: a class and x, y, width, height, or a polygon"),
        ("0 0.5 x 0.1 0.1", "line 1: must be a number"),
    ],
)
def test_pain_4_lines_that_cannot_be_meant_are_refused(line, message, table, images):
    as_yolo(rows_of(table), images)
    (images / "labels" / "00.txt").write_text(line)
    with pytest.raises(DataError, match=message):
        open_listing(str(images), BoxTargets())


def test_polygons_of_yolo_give_the_box_around_them(table, images):
    as_yolo(rows_of(table), images, polygon=True)
    np.testing.assert_allclose(encoded(images)[2], encoded(table)[2], atol=1e-6)
    assert any("12 objects are polygons" in n for n in open_listing(images, BoxTargets()).notes)


def test_corners_that_count_from_one_are_told_by_the_whole_set(table, images):
    rows = [(i, n, [x1 + 1, y1 + 1, x2, y2]) for i, n, (x1, y1, x2, y2) in rows_of(table)]
    image, name, _ = rows[0]
    as_voc([(image, name, [1, 1, 64, 48]), *rows[1:]], images)
    listing = open_listing(str(images), BoxTargets())
    assert any("corners count pixels from 1" in note for note in listing.notes)
    found = {e.id: e.label.boxes[0].corners for e in listing.parts["train"]}
    assert found[image] == (0, 0, 64, 48)
    other = rows_of(table)[1]
    assert list(found[other[0]]) == other[2]


BOMB = (
    '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>'
    "<annotation><object><name>&y;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "00.xml: declares a document type, which may hold entities"),
        ("<annotation><object>", "00.xml: is not XML"),
        ("<annotation><object><name>a</name></object></annotation>", "object 1: has no bndbox"),
        (
            "<annotation><object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>no</xmax>"
            "<ymax>3</ymax></bndbox></object></annotation>",
            "object 1: xmax: must be a number",
        ),
        (
            "<annotation><object><name></name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
            "<ymax>3</ymax></bndbox></object></annotation>",
            "object 1: name",
        ),
    ],
)
def test_broken_and_hostile_xml_is_refused_with_its_place(content, message, table, images):
    as_voc(rows_of(table), images)
    (images / "images" / "00.xml").write_text(content)
    with pytest.raises(DataError, match=message):
        open_listing(str(images), BoxTargets())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 5}, "annotation 0: category_id: no category has it. Allowed: 1, 7"),
        ({"image_id": 5}, "annotation 0: image_id: no image has it. Received: 5"),
        ({"bbox": [1, 2]}, r"annotation 0: bbox: Allowed: \[x, y, width, height\]"),
        ({"bbox": [1, 2, "a", 3]}, "annotation 0: bbox: must be a number"),
    ],
    ids=str,
)
def test_broken_coco_is_refused_with_its_id(change, message, table, images):
    content = as_coco(rows_of(table), images)
    content["annotations"][0] |= change
    (images / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        open_listing(str(images), BoxTargets())


def test_what_is_no_coco_is_refused(images):
    (images / "boxes.json").write_text("[]")
    with pytest.raises(DataError, match="is not COCO: needs the lists images, annotations"):
        open_listing(str(images / "boxes.json"), BoxTargets())
    (images / "boxes.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        open_listing(str(images / "boxes.json"), BoxTargets())


def test_a_folder_of_two_forms_is_refused_and_one_of_none(table, images):
    with pytest.raises(DataError, match="holds no annotations with boxes"):
        open_listing(str(images), BoxTargets())
    as_voc(rows_of(table), images)
    as_coco(rows_of(table), images)
    with pytest.raises(DataError, match="has annotations of several forms"):
        open_listing(str(images), BoxTargets())


def test_a_table_of_boxes_beside_folders_is_asked_about(table):
    with pytest.raises(DataError, match=r"boxes.csv in it has boxes .* --set task=classification"):
        find_task(table.parent)
    result = CliRunner().invoke(main, ["plan", str(table.parent)])
    assert result.exit_code == 2
    assert str(table) in result.stderr


def test_several_boxes_in_an_image_are_refused_with_what_can_be_done(table, tmp_path):
    lines = table.read_text().splitlines()
    (tmp_path / "boxes.csv").write_text("\n".join([*lines, lines[1].replace("0", "1", 1)]) + "\n")
    shutil.copytree(table.parent / "images", tmp_path / "images")
    again = "images/00.png,red,1,1,9,9"
    (tmp_path / "boxes.csv").write_text("\n".join([*lines, again]) + "\n")
    data = str(tmp_path / "boxes.csv")
    assert find_task(data) == "detection"
    result = CliRunner().invoke(main, ["plan", data, "--set", "task=localisation"])
    assert result.exit_code == 2
    text = " ".join(result.stderr.split())
    assert "1 image of 12 in the training data have more than one box" in text
    assert "such as images/00.png with 2" in text
    assert "To find several objects in an image: --set task=detection" in text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("images/00.png,red,1,2,,4", "line 2: x2 is empty. Allowed: a class and four numbers"),
        ("images/00.png,,1,2,3,4", "line 2: label is empty"),
        ("images/00.png,red,1,2,a,4", "x1, y1, x2, y2: must be a number"),
    ],
)
def test_rows_that_hold_half_a_box_are_refused(row, message, table, tmp_path):
    lines = table.read_text().splitlines()
    lines[1] = row
    shutil.copytree(table.parent / "images", tmp_path / "images")
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        open_listing(str(tmp_path / "boxes.csv"), BoxTargets())


def test_fractions_in_a_table_are_refused(table, tmp_path):
    shutil.copytree(table.parent / "images", tmp_path / "images")
    rows = [f"images/{i:02d}.png,red,0.1,0.2,0.5,0.6" for i in range(12)]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,label,x1,y1,x2,y2", *rows]) + "\n")
    with pytest.raises(DataError, match="Received: none above 1, as if they were fractions"):
        open_listing(str(tmp_path / "boxes.csv"), BoxTargets())


def test_a_class_that_training_lacks_is_refused_in_another_part(table, tmp_path):
    shutil.copytree(table.parent / "images", tmp_path / "images")
    lines = table.read_text().splitlines()
    parts = ["split", *["train"] * 10, "val", "test"]
    lines = [f"{line},{part}" for line, part in zip(lines, parts, strict=True)]
    lines[-1] = "images/11.png,green,1,1,9,9,test"
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="the test data has classes that the training data lacks"):
        open_source(str(tmp_path / "boxes.csv"), targets=BoxTargets())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", ["a.xml", "a.json", "a.txt", "labels/b.txt"])
def test_pipes_called_as_annotations_are_not_waited_for(tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "labels").mkdir()
    os.mkfifo(tmp_path / name)
    assert find_task(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_called_as_a_list_of_classes_is_not_waited_for(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    os.mkfifo(tmp_path / "classes.txt")
    with pytest.raises(DataError, match="names"):
        open_listing(tmp_path, BoxTargets())
