"""Several objects an image, from the data to the export: whole runs, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from detected import SIZE, paint, write_net, write_objects
from PIL import Image
from test_box_forms import as_coco
from test_localisation import turned_copy

import tlkit
from tlkit.cli.main import main
from tlkit.commands.train import resume
from tlkit.data.annotations import Annotations, Box
from tlkit.data.box_targets import DetectionTargets
from tlkit.data.readers.find_task import find_task
from tlkit.data.readers.open import open_source
from tlkit.data.scan.scan import scan
from tlkit.errors import Interrupted, SpecError
from tlkit.progress import Progress
from tlkit.spec.read import make_spec
from tlkit.tasks.detection import SIZES, Detection
from tlkit.tasks.detector import STRIDES
from tlkit.tasks.registry import task_of

IMAGE = (80, 64)
"""Width and height of the images of `write_objects`."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_objects(tmp_path_factory.mktemp("objects") / "set")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A table whose every second image shows nothing."""
    return write_objects(tmp_path_factory.mktemp("half") / "set", seed=3, empty=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a network with a map at each stride from 2 to 32."""
    return write_net(tmp_path_factory.mktemp("net") / "small.keras")


def fields(small, **more):
    own = {"backbone": small, "engine": "keras", "image_size": SIZE, "progress": False}
    own |= {"detector": {"channels": 32}, "regime": "medium", "freeze": "none"}
    own |= {"augmented_copies": 1, "optimizer": {"learning_rate": 0.005}, "batch_size": 8}
    return {**own, **more}


@pytest.fixture(scope="module")
def run(table, small, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return tlkit.train(table, out=out, **fields(small, epochs=20))


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    """The path of an export of the run."""
    return run.export(tmp_path_factory.mktemp("served") / "savedmodel", progress=False)


# The whole way


def test_several_boxes_an_image_are_detected(run):
    assert run.spec.task == "detection"
    test = run.metrics["test"]
    assert {"ap", "ap50", "ap75", "ap50_interval95", "errors", "objects"} <= set(test)
    assert test["ap50"] > 0.2
    assert test["ap"] <= test["ap50"]
    assert set(test["per_class"]) == {"blue", "red"}
    assert sum(own["count"] for own in test["per_class"].values()) == test["objects"]
    assert {"ap50", "count"} <= set(test["per_class"]["blue"])
    assert set(run.metrics["val"]) >= {"loss", "ap50"}
    assert len(run.task.thresholds) == 2
    for name in ("pr.png", "confusion.png", "errors.png", "worst.png"):
        assert (run.folder / name).stat().st_size > 1000


def test_pain_15_average_precision_is_told_after_each_epoch(run):
    rows = list(csv.DictReader(io.StringIO((run.folder / "log.csv").read_text())))
    told = [float(row["val_ap50"]) for row in rows]
    assert len(told) == len(rows) >= 20
    assert all(0 <= x <= 1 for x in told)
    assert max(told) == pytest.approx(run.metrics["val"]["ap50"], abs=1e-3)
    assert "-1" not in {str(x) for x in run.metrics["test"].values()}


def test_a_run_is_evaluated_to_its_own_numbers(run, half):
    own = run.evaluate(progress=False)
    for name in ("ap", "ap50", "ap75", "per_class", "errors"):
        assert own[name] == run.metrics["test"][name]
    other = run.evaluate(half, progress=False)
    assert other["examples"] == 24
    result = CliRunner().invoke(main, ["evaluate", str(run.folder)])
    assert result.exit_code == 0, result.stderr
    assert "AP50" in result.stdout


def test_objects_are_predicted_with_label_score_and_box_and_drawn(run, table, tmp_path):
    folder = table.parent / "images"
    words = ["predict", str(run.folder), str(folder), "--json", "--overlay", str(tmp_path / "o")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    found = [one for row in rows for one in row["detections"]]
    assert len(found) > 5
    for one in found:
        assert set(one) == {"label", "score", "box"}
        x1, y1, x2, y2 = one["box"]
        assert 0 <= x1 < x2 <= IMAGE[0]
        assert 0 <= y1 < y2 <= IMAGE[1]
        assert one["score"] >= run.task.thresholds[("blue", "red").index(one["label"])]
    with_one = next(row for row in rows if row["detections"])
    drawn = Image.open(with_one["overlay"])
    assert drawn.size == IMAGE
    assert not np.array_equal(np.asarray(drawn), np.asarray(Image.open(with_one["path"])))
    assert run.predict(folder / "00.png")[0]["detections"] == rows[0]["detections"]


@pytest.fixture(scope="module")
def odd(run, table, tmp_path_factory):
    """Files of an image with objects that are found, its copy that EXIF turns, a tall one, a wide
    one."""
    folder, random = tmp_path_factory.mktemp("odd"), np.random.default_rng(5)
    rows = run.predict(table.parent / "images")
    image = Image.open(max(rows, key=lambda row: len(row["detections"]))["path"])
    image.save(folder / "plain.png")
    (folder / "turned.png").write_bytes(turned_copy(image, 6))
    paint(random, 40, 200)[0].save(folder / "tall.png")
    paint(random, 240, 48)[0].save(folder / "wide.png")
    return [folder / f"{name}.png" for name in ("plain", "turned", "tall", "wide")]


def check_parity(run, path, files):
    """Hold an export against the run: 0.5 px and 1e-3; return how many objects were found."""
    signatures = tf.saved_model.load(str(path)).signatures
    rows, total = run.predict(files), 0
    for file, row in zip(files, rows, strict=True):
        served = {
            name: x.numpy()[0]
            for name, x in signatures["serving_default"](
                image_bytes=tf.constant([file.read_bytes()])
            ).items()
        }
        count = int(served["count"])
        assert count == len(row["detections"])
        with Image.open(file) as image:
            width, height = image.size
        if file.stem == "turned":
            width, height = height, width
        for i, one in enumerate(row["detections"]):
            np.testing.assert_allclose(served["boxes"][i], one["box"], atol=0.5)
            assert served["scores"][i] == pytest.approx(one["score"], abs=1e-3)
            assert served["labels"][i].decode() == one["label"]
            assert one["box"][0] >= 0
            assert one["box"][2] <= width
            assert one["box"][3] <= height
        assert (served["boxes"][count:] == 0).all()
        total += count
    return rows, total


def test_pain_10_and_12_an_export_lists_objects_in_pixels_of_the_upright_original(
    run, served, odd, tmp_path
):
    rows, total = check_parity(run, served, odd)
    assert total >= 2
    plain, turned = rows[:2]
    assert len(plain["detections"]) == len(turned["detections"])
    for one, other in zip(plain["detections"], turned["detections"], strict=True):
        assert one["box"] == pytest.approx(other["box"], abs=0.1)
        assert one["label"] == other["label"]
    pixels = np.asarray(Image.open(odd[0]))[None]
    answer = tf.saved_model.load(str(served)).signatures["serve_pixels"](images=pixels)
    assert int(answer["count"][0]) == len(plain["detections"])
    result = CliRunner().invoke(main, ["predict", str(served), *map(str, odd), "--json"])
    assert result.exit_code == 0, result.stderr
    for own, row in zip(json.loads(result.stdout), rows, strict=True):
        assert len(own["detections"]) == len(row["detections"])
        for one, other in zip(own["detections"], row["detections"], strict=True):
            np.testing.assert_allclose(one["box"], other["box"], atol=0.5)


def test_mirrored_images_have_mirrored_answers_and_tta_takes_both(run, odd, tmp_path):
    image = Image.open(odd[0])
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    files = [odd[0], tmp_path / "mirrored.png"]
    plain, mirrored = (row["detections"] for row in run.predict(files, tta="flip"))
    assert len(plain) == len(mirrored) > 0
    for one, other in zip(
        *(sorted(own, key=lambda x: -x["score"]) for own in (plain, mirrored)), strict=True
    ):
        x1, y1, x2, y2 = other["box"]
        assert one["box"] == pytest.approx([IMAGE[0] - x2, y1, IMAGE[0] - x1, y2], abs=0.1)


@pytest.fixture(scope="module")
def oblong(half, tmp_path_factory):
    """A letterboxed run on an oblong input, half of whose images are empty, in small batches."""
    how = {"backbone": {"name": "MobileNet", "weights": "none", "alpha": 0.25}, "epochs": 1}
    how |= {"image_size": "72x104", "resize": "letterbox", "batch_size": 4, "engine": "keras"}
    out = tmp_path_factory.mktemp("oblong") / "run"
    return tlkit.train(half, out=out, progress=False, **how)


def test_pain_1_a_set_whose_every_second_image_is_empty_trains(oblong):
    examples = oblong.metrics["examples"]
    assert sum(examples[part] for part in ("train", "val", "test")) == 24
    assert np.isfinite(oblong.metrics["val"]["loss"])
    for row in csv.DictReader(io.StringIO((oblong.folder / "log.csv").read_text())):
        assert np.isfinite(float(row["loss"]))
        assert np.isfinite(float(row["val_loss"]))


def test_pain_9_small_batches_are_normalised_by_groups(oblong, run):
    def kinds(own):
        return {
            type(layer).__name__
            for layer in own.model.layers
            if layer.name.startswith("head_") and "Normalization" in type(layer).__name__
        }

    assert kinds(oblong) == {"GroupNormalization"}
    assert kinds(run) == {"BatchNormalization"}


@pytest.mark.full
def test_pain_11_and_14_letterboxed_oblong_inputs_answer_in_pixels_of_the_original(
    oblong, odd, tmp_path
):
    path = oblong.export(tmp_path / "served", progress=False)
    check_parity(oblong, path, odd)
    found = oblong.evaluate(progress=False)
    assert found["ap50"] == oblong.metrics["test"]["ap50"]


@pytest.mark.full
def test_a_stopped_run_ends_with_the_same_numbers_and_so_does_a_repeated_one(half, small, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    how = fields(small, epochs=2, deterministic=True)
    whole = tlkit.train(half, out=tmp_path / "whole", **how)
    again = tlkit.train(half, out=tmp_path / "again", **how)
    with pytest.raises(Interrupted):
        tlkit.train(half, out=tmp_path / "run", callbacks=[Stop()], **how)
    resumed = resume(tmp_path / "run", progress=False)
    for other in (again, resumed):
        assert other.metrics["test"] == whole.metrics["test"]
        assert other.metrics["val"] == whole.metrics["val"]
        assert (other.folder / "predictions.csv").read_text() == (
            whole.folder / "predictions.csv"
        ).read_text()


# Data


def rows_of(table):
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (r["image"], r["label"], [int(r[x]) for x in ("x1", "y1", "x2", "y2")])
        for r in rows
        if r["label"]
    ]


def write_voc(rows, folder, extra=None):
    """Write VOC files for all images of a folder; `extra`: tags of objects by their number."""
    for image in sorted((folder / "images").glob("*.png")):
        own = [(i, row) for i, row in enumerate(rows) if row[0] == f"images/{image.name}"]
        objects = "".join(
            f"<object><name>{name}</name>{(extra or {}).get(i, '')}<bndbox>"
            + "".join(
                f"<{tag}>{value}</{tag}>"
                for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            )
            + "</bndbox></object>"
            for i, (_, name, box) in own
        )
        image.with_suffix(".xml").write_text(
            f"<annotation><filename>{image.name}</filename><size><width>{IMAGE[0]}</width>"
            f"<height>{IMAGE[1]}</height></size>{objects}</annotation>"
        )


def write_coco(rows, folder):
    content = as_coco(rows, folder)
    ids = {}
    for image in content["images"]:
        ids.setdefault(image["file_name"], image["id"])
    known = {image["id"]: image["file_name"] for image in content["images"]}
    for own in content["annotations"]:
        own["image_id"] = ids[known[own["image_id"]]]
    for i, image in enumerate(sorted((folder / "images").glob("*.png"))):
        ids.setdefault(f"images/{image.name}", 1000 + i)
    content["images"] = [
        {"id": id_, "file_name": name, "width": IMAGE[0], "height": IMAGE[1]}
        for name, id_ in ids.items()
    ]
    (folder / "boxes.json").write_text(json.dumps(content))


def write_yolo(rows, folder):
    (folder / "labels").mkdir()
    for image in sorted((folder / "images").glob("*.png")):
        lines = []
        for _, name, (x1, y1, x2, y2) in (r for r in rows if r[0] == f"images/{image.name}"):
            (width, height), number = IMAGE, ("blue", "red").index(name)
            values = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            values += (x2 - x1) / width, (y2 - y1) / height
            lines.append(f"{number} {' '.join(f'{v:.9f}' for v in values)}")
        (folder / "labels" / f"{image.stem}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("train: images\nnames: [blue, red]\n")


FORMS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo}


@pytest.fixture
def images(half, tmp_path):
    """A folder with the images alone."""
    shutil.copytree(half.parent / "images", tmp_path / "data" / "images")
    return tmp_path / "data"


def encoded(data):
    source = open_source(str(data), targets=DetectionTargets())
    examples = [e for part in source.parts.values() for e in part]
    found = scan(examples, Progress(quiet=True), empties=True)
    examples = found.hashed(examples)
    task = Detection(source.outputs, SIZE)
    by_id = {e.id: sorted(e.label.boxes) for e in examples}
    column = task.encode([e.label for e in examples])
    rows = [sorted(map(tuple, row[row[:, 5] > 0].round(5))) for row in column[:]]
    return source.outputs, list(by_id), rows


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_set_gives_equal_targets(form, half, images):
    FORMS[form](rows_of(half), images)
    outputs, ids, rows = encoded(half)
    found = encoded(images)
    assert found[:2] == (outputs, ids)
    assert len(ids) == 24  # those without an object too
    assert [len(row) for row in found[2]] == [len(row) for row in rows]
    for own, other in zip(found[2], rows, strict=True):
        np.testing.assert_allclose(np.array(own), np.array(other), atol=2e-5)
    assert min(map(len, rows)) == 0 < max(map(len, rows))


@pytest.mark.full
def test_two_forms_of_one_set_train_to_equal_numbers(half, images, small, tmp_path):
    write_coco(rows_of(half), images)
    how = fields(small, epochs=2, deterministic=True)
    one = tlkit.train(half, out=tmp_path / "one", **how)
    other = tlkit.train(images, out=tmp_path / "other", **how)
    assert other.metrics["test"] == one.metrics["test"]
    assert other.metrics["val"] == one.metrics["val"]


def test_several_boxes_ask_for_detection_and_one_each_for_localisation(half, images):
    assert find_task(half) == "detection"
    rows = rows_of(half)
    write_voc(rows, images)
    assert find_task(images) == "detection"
    first = {}
    for i, row in enumerate(rows):
        first.setdefault(row[0], i)
    write_voc([rows[i] for i in first.values()], images)
    assert find_task(images) == "localisation"


def scanned(data, *words):
    result = CliRunner().invoke(main, ["data", "scan", str(data), *words])
    assert result.exit_code == 0, result.output
    return result


def test_pain_1_images_without_annotations_are_left_out_and_empty_ones_kept(half, images):
    write_voc(rows_of(half), images)
    (images / "images" / "02.xml").unlink()
    text = " ".join(scanned(images).output.split())
    assert "the task is detection; another: --set task=NAME" in text
    assert "1 image without annotations left out" in text
    assert "images/02.png" in text
    found = json.loads(scanned(images, "--json").stdout)
    assert found["left_out"] == []
    assert found["boxes"]["without"] == 12


def test_pain_2_degenerate_and_outside_boxes_are_dropped_and_clipped_beside_others(table, tmp_path):
    shutil.copytree(table.parent, tmp_path / "set")
    data = tmp_path / "set" / "boxes.csv"
    rows = ["images/00.png,red,10,10,10,30", "images/00.png,red,-5,10,30,40"]
    rows += ["images/00.png,red,90,10,95,30"]
    data.write_text(data.read_text() + "\n".join(rows) + "\n")
    before = json.loads(scanned(table, "--json").stdout)["boxes"]
    found = json.loads(scanned(data, "--json").stdout)
    assert found["left_out"] == []
    assert (len(found["boxes"]["clipped"]), len(found["boxes"]["dropped"])) == (1, 2)
    assert found["boxes"]["boxes"] == before["boxes"] + 3


def test_an_image_whose_only_box_is_dropped_is_said(tmp_path):
    """It was annotated with something: to train on it as empty would teach a fault."""
    table = write_objects(tmp_path / "set", 12)
    lines = [line for line in table.read_text().splitlines() if "/05.png" not in line]
    table.write_text("\n".join([*lines, "images/05.png,red,10,10,10,30"]) + "\n")
    text = " ".join(scanned(table, "--set", "task=detection").output.split())
    assert "images/05.png" in text
    assert "dropped" in text


def test_pain_3_class_names_are_those_of_the_objects_whatever_their_ids(half, images):
    write_coco(rows_of(half), images)
    content = json.loads((images / "boxes.json").read_text())
    content["categories"].append({"id": 40, "name": "unused"})
    (images / "boxes.json").write_text(json.dumps(content))
    assert encoded(images)[0] == ("blue", "red")


def test_pain_3_crowds_are_left_out_and_said(half, images):
    write_coco(rows_of(half), images)
    content = json.loads((images / "boxes.json").read_text())
    before = encoded(images)[2]
    content["annotations"].append({**content["annotations"][0], "id": 99, "iscrowd": 1})
    (images / "boxes.json").write_text(json.dumps(content))
    assert "1 crowd regions (iscrowd) left out" in " ".join(scanned(images).output.split())
    assert encoded(images)[2] == before


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.1 0.1", "0 30 20 10 10"])
def test_pain_4_lines_of_yolo_that_cannot_be_meant_are_refused(line, half, images):
    write_yolo(rows_of(half), images)
    (images / "labels" / "00.txt").write_text(line + "\n")
    result = CliRunner().invoke(main, ["data", "scan", str(images), "--set", "task=detection"])
    assert result.exit_code == 2
    assert "00.txt, line 1" in result.stderr.replace("\n", "")


def test_pain_5_boxes_are_counted_and_drawn(half, tmp_path):
    words = ["--sheet", str(tmp_path / "sheet.png")]
    text = " ".join(scanned(half, *words).output.split())
    count = len(rows_of(half))
    assert f"{count} boxes in 24 images, 100.0% wholly inside" in text
    assert (np.asarray(Image.open(tmp_path / "sheet.png")) == (255, 60, 0)).all(axis=-1).sum() > 500


# The size of the input


def labels_of(side, image=640, count=20):
    box = Box("a", (10.0, 10.0, 10.0 + side, 10.0 + side))
    return [Annotations((box,), image, image) for _ in range(count)]


@pytest.mark.parametrize(
    ("side", "size"), [(40, 320), (16, 320), (13, 416), (10, 512), (8, 640), (4, 640)]
)
def test_pain_13_the_size_of_the_input_is_chosen_by_the_objects(side, size):
    chosen, why = Detection.input_size(labels_of(side), "stretch")
    assert chosen == size
    assert f"of the objects span {STRIDES[0]} px there or more" in why
    assert ("100.0%" in why) == (side >= 8)


def test_the_share_decides_and_letterboxed_images_are_measured_by_their_longer_side():
    some = labels_of(40, count=95) + labels_of(9, count=5)
    assert Detection.input_size(some, "stretch")[0] == 320
    assert Detection.input_size(some[5:] + labels_of(9, count=6), "stretch")[0] > 320
    box = Box("a", (0.0, 0.0, 60.0, 12.0))
    wide = [Annotations((box,), 300, 1200)]
    assert Detection.input_size(wide, "stretch")[0] == 320
    assert Detection.input_size(wide, "letterbox")[0] == SIZES[-1]


def test_the_chosen_size_is_said_and_another_wins(table):
    words = ["plan", str(table), "--backbone", "MobileNet", "--set", "backbone.weights=none"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "320 pixels (--image-size): 100.0% of the objects span 8 px there or more" in text
    result = CliRunner().invoke(main, [*words, "--image-size", "96"])
    assert result.exit_code == 0, result.output
    assert "size      96 pixels (--image-size): 100.0% of the objects span" in result.output


def test_a_network_of_ones_own_keeps_its_size(table, small):
    """Its input is fixed: the objects choose nothing."""
    result = CliRunner().invoke(main, ["plan", str(table), "--backbone", small])
    assert result.exit_code == 0, result.output
    assert "320 pixels" not in result.output


# What is refused


@pytest.mark.parametrize(
    "asked",
    [
        {"mixup": 0.2}, {"cutmix": 1.0}, {"head": {"hidden": [8]}}, {"head": {"refit": True}},
        {"balance": "weights"}, {"rare": "drop"}, {"head": {"solver": "lbfgs"}},
        {"optimizer": {"label_smoothing": 0.1}}, {"budget": "1m"}, {"head": {"pooling": "max"}},
        {"head": {"bias": "zeros"}}, {"table": {"targets": ["x1"]}},
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_meaning_for_objects_is_refused(asked):
    with pytest.raises(SpecError, match="Allowed for detection: "):
        make_spec({"task": "detection", "image_size": SIZE, **asked})


def test_what_belongs_to_other_tasks_is_refused():
    with pytest.raises(SpecError, match=r"decoder.channels: belongs to the task segmentation"):
        make_spec({"task": "detection", "decoder": {"channels": 32}})
    for task in ("classification", "localisation", "segmentation"):
        own = {"mask_values": ["0=a", "1=b"]} if task == "segmentation" else {}
        with pytest.raises(SpecError, match=r"detector.channels: belongs to the task detection"):
            make_spec({"task": task, "detector": {"channels": 32}, **own})
    with pytest.raises(SpecError, match="mask_values: belongs to the task segmentation"):
        make_spec({"task": "detection", "mask_values": ["0=a", "1=b"]})


def test_channels_of_the_detector_are_those_asked_for():
    spec = make_spec({"task": "detection", "detector": {"channels": 24}, "image_size": SIZE})
    task = task_of(spec, ("a",))
    levels = {s: keras.Input((SIZE // s, SIZE // s, 4)) for s in STRIDES}
    model = keras.Model(list(levels.values()), task.head(levels, spec.head))
    assert model.get_layer("predictions").kernel.shape[2] == 24


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_tiles_are_refused(command, run, table):
    data = table.parent / "images" if command == "predict" else table
    result = CliRunner().invoke(main, [command, str(run.folder), str(data), "--tile", "64"])
    assert result.exit_code == 2
    assert "tile: " in " ".join(result.stderr.split())
