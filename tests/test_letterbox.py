"""Images brought to the network's square whole, between bars, and answers brought back."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from conftest import reseal
from PIL import Image
from test_formats import standalone_rows
from test_localisation import paint, turned_copy, write_boxes, write_voc
from test_segmentation import fields, write_net

import tlkit
from tlkit.cli.main import main
from tlkit.data.annotations import Annotations, Box
from tlkit.data.feed.augment import augmenter
from tlkit.data.masks import nearest
from tlkit.data.pictures.decode import decode, decode_and_resize, decode_sized, resize
from tlkit.data.pictures.placement import BARS, LETTERBOX, placement
from tlkit.data.pictures.rendering import Rendering
from tlkit.data.scan.box_frames import _least
from tlkit.data.scan.inspect import Finding
from tlkit.errors import SpecError
from tlkit.export.about import about_from_json, about_of
from tlkit.export.standalone import place
from tlkit.spec.read import make_spec
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.localisation import Localisation
from tlkit.tasks.segmentation import Segmentation

SIZE = 32
BOXED = Rendering(fit=LETTERBOX)


# Places


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 200, (8, 0, 16, 32)), (200, 100, (0, 8, 32, 16)), (50, 50, (0, 0, 32, 32)),
        (9, 32, (11, 0, 9, 32)), (3, 64, (15, 0, 2, 32)), (1, 5000, (15, 0, 1, 32)),
        (16, 33, (8, 0, 16, 32)),
    ],
    ids=str,
)  # fmt: skip
def test_an_image_lies_in_the_middle_at_its_own_aspect_ratio(height, width, expected):
    assert placement(height, width, SIZE, LETTERBOX) == expected
    assert place(height, width, SIZE, LETTERBOX) == expected
    arrays = placement(np.array([height]), np.array([width]), SIZE, LETTERBOX)
    assert [int(x[0]) for x in arrays] == list(expected)
    tensors = placement(
        tf.constant(height, tf.int64), tf.constant(width, tf.int64), SIZE, LETTERBOX
    )
    assert [int(x) for x in tensors] == list(expected)
    assert placement(height, width, SIZE, "stretch") == (0, 0, SIZE, SIZE)


@pytest.mark.parametrize(("height", "width"), [(20, 61), (61, 20), (7, 9), (300, 90)])
def test_pixels_between_the_bars_are_those_of_a_resized_image(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    made = resize(tf.constant(image), SIZE, LETTERBOX).numpy()
    top, left, rows, columns = placement(height, width, SIZE, LETTERBOX)
    inner = tf.image.resize(image, (rows, columns), antialias=True).numpy()
    np.testing.assert_allclose(made[top : top + rows, left : left + columns], inner, atol=1e-3)
    bars = np.ones((SIZE, SIZE), bool)
    bars[top : top + rows, left : left + columns] = False
    assert bars.any()
    np.testing.assert_array_equal(made[bars], np.tile(np.float32(BARS), (bars.sum(), 1)))
    mask = nearest(tf.constant(image[..., :1] // 200), SIZE, LETTERBOX).numpy()[..., 0]
    assert (mask[bars] == 255).all()
    assert set(np.unique(mask[~bars])) <= {0, 1}


def test_a_square_image_is_the_same_either_way():
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8))
    np.testing.assert_allclose(resize(image, SIZE, LETTERBOX), resize(image, SIZE), atol=1e-4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_set_between_bars_upright(orientation):
    image = np.random.default_rng(1).integers(0, 256, (21, 60, 3), np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(image).save(file, "PNG", exif=exif)
    encoded = tf.constant(file.getvalue())
    found, sizes = decode_sized(encoded, SIZE, BOXED)
    upright = decode(encoded)
    np.testing.assert_array_equal(sizes, upright.shape[:2])
    np.testing.assert_allclose(found, resize(upright, SIZE, LETTERBOX), atol=0.01)


def test_boxes_go_into_the_square_and_back():
    task = Localisation(("a",), size=SIZE, resize=LETTERBOX)
    label = Annotations((Box("a", (10.0, 20.0, 30.0, 50.0)),), 50, 200)
    column = task.encode([label])
    np.testing.assert_allclose(column[:], [[0, 0.05, 0.475, 0.15, 0.625]], atol=1e-6)
    back = task.frame.of_image(column[:][:, 1:].astype(float), np.array([[50, 200]]))
    np.testing.assert_allclose(back * (200, 50, 200, 50), [label.boxes[0].corners], atol=1e-4)
    # What lies on the bars is cut off.
    np.testing.assert_allclose(
        task.frame.of_image(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[50, 200]])), [[0, 0, 1, 1]]
    )


def test_areas_are_of_the_image_alone_and_maps_of_its_part():
    task = Segmentation(("a", "b"), size=4, resize=LETTERBOX)
    raw = np.zeros((1, 4, 4, 2), np.float32)
    raw[..., 0] = 1
    raw[:, :2, :, 1] = 2  # the upper half, bars among it, is b
    answer = task.answer(raw, np.array([[10, 20]], np.int32))
    np.testing.assert_allclose(answer["areas"], [[0.5, 0.5]], atol=1e-6)
    assert task.decode(raw[0], 10, 20)["areas"] == {"a": 0.5, "b": 0.5}
    numbers = np.asarray(task.label_map(raw[0], 10, 20))
    assert numbers.shape == (10, 20)
    assert (numbers[:5] == 1).all()
    assert (numbers[5:] == 0).all()


def test_small_boxes_are_measured_by_what_the_network_sees():
    assert _least(100, 400, SIZE, LETTERBOX) == (12.5, 12.5)
    assert _least(100, 400, SIZE, "stretch") == (12.5, 3.125)


def test_features_of_letterboxed_images_have_keys_of_their_own():
    finding = Finding("ab", None)
    assert finding.variant(Rendering()) == "ab"
    assert finding.variant(BOXED) == "ab-letterbox"


@pytest.mark.parametrize("roams", [False, True])
@pytest.mark.parametrize("level", ["light", "medium"])
def test_pain_8_a_painted_rectangle_moves_with_a_letterboxed_image(level, roams):
    height, width, box = 160, 70, (20, 60, 50, 110)
    image = np.full((height, width, 3), 120, np.float32)
    mask = np.zeros((height, width, 1), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    change = augmenter(level, roams=roams, fit=LETTERBOX)
    label = Annotations((Box("a", tuple(map(float, box))),), height, width)
    column = Localisation(("a",), size=96, resize=LETTERBOX).encode([label])
    pair = tf.function(
        lambda seed: (
            change(image, 96, seed), column.target(0, change, 96, seed),
            change.mask(mask, 96, seed),
        )
    )  # fmt: skip
    compared = 0
    for number in range(12):
        seen, target, moved = (np.asarray(x) for x in pair(tf.constant([number, 7])))
        red = seen[..., 0] - seen[..., 1] > 100
        assert set(np.unique(moved)) <= {0, 1, 255}
        if not roams:
            assert (red == (moved[..., 0] == 1)).mean() > 0.98
        rows, columns = np.nonzero(red)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        if found.min() < 2 or found.max() > 94:
            continue
        # Around what is turned after it was cut the box may be larger than what is seen.
        np.testing.assert_allclose(target[1:] * 96, found, atol=4.5 if level == "medium" else 1.6)
        ratio = np.ptp(rows) / np.ptp(columns)
        if level == "light" and target[1] > 0.3 and target[3] < 0.7:
            assert ratio < 2.6  # not drawn out: 50 by 30, cut perhaps
        compared += 1
    assert compared > 4


# Whole runs


def tall_and_wide(folder, count=16):
    """Write images of several sizes beside their masks, and as boxes; return both."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / "masked" / kind).mkdir(parents=True)
    (folder / "boxed").mkdir()
    for i in range(count):
        size = ((64, 24), (24, 64), (40, 40))[i % 3]
        image, name, box = paint(random, *size)
        mask = np.zeros(size[::-1], np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 255
        image.save(folder / "masked" / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masked" / "masks" / f"{i:02d}.png")
        image.save(folder / "boxed" / f"{i:02d}.png")
        write_voc(folder / "boxed" / f"{i:02d}.xml", size, name, box)
    return folder / "masked", folder / "boxed"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tall_and_wide(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def segmented(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    how = fields(write_net(folder), regime="small", resize="letterbox") | {"epochs": 2}
    return tlkit.train(data[0], out=folder / "run", **how)


@pytest.fixture(scope="module")
def located(data, tmp_path_factory):
    """A run on boxes, letterboxed to an oblong input, by the command line."""
    folder = tmp_path_factory.mktemp("boxes") / "run"
    words = ["train", str(data[1]), "--out", str(folder), "--image-size", "32x48"]
    words += ["--backbone", "MobileNet", "--set", "backbone.alpha=0.25"]
    words += ["--set", "backbone.weights=none", "--regime", "small", "--engine", "keras"]
    words += ["--set", "augmented_copies=1", "--set", "resize=letterbox"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "images are brought to 32 x 48 (height x width) pixels" in result.output
    return tlkit.open_run(folder)


@pytest.fixture(scope="module")
def turned(data):
    """Bytes of a tall image, a wide one, and a turned copy of the wide one."""
    files = [data[1] / "00.png", data[1] / "01.png"]
    with Image.open(files[1]) as image:
        return [*(file.read_bytes() for file in files), turned_copy(image, 6)]


@pytest.mark.full
def test_maps_are_measured_drawn_and_served_as_the_run_answers(segmented, turned, tmp_path):
    assert segmented.evaluate(progress=False)["mean_iou"] == pytest.approx(
        segmented.metrics["test"]["mean_iou"], abs=1e-6
    )
    rows = segmented.predict(turned, masks=tmp_path / "masks", overlay=tmp_path / "over")
    path = segmented.export(tmp_path / "served", progress=False)
    signatures = tf.saved_model.load(str(path)).signatures
    for content, row in zip(turned, rows, strict=True):
        with Image.open(row["mask"]) as image:
            numbers = np.asarray(image)
        answer = signatures["serving_default"](image_bytes=tf.constant([content]))
        np.testing.assert_array_equal(answer["label_map"][0], numbers)
        np.testing.assert_allclose(answer["areas"][0], list(row["areas"].values()), atol=1e-5)
        pixels = decode(content)[None]
        served = signatures["serve_pixels"](images=pixels)["label_map"][0].numpy()
        assert (served == numbers).mean() > 0.995
    with Image.open(rows[1]["mask"]) as plain, Image.open(rows[2]["mask"]) as other:
        assert (np.asarray(plain) == np.asarray(other)).mean() > 0.99
        assert plain.size == other.size == (24, 64)
    assert json.loads((path / "assets.extra" / "rendering.json").read_text())["fit"] == LETTERBOX
    assert tlkit.open_export(path).predict(turned)[0]["areas"] == pytest.approx(rows[0]["areas"])


def test_boxes_of_an_oblong_input_are_told_in_pixels_of_the_original(located, turned, tmp_path):
    assert located.spec.image_size == "32x48"
    assert located.model.input_shape == (None, 32, 48, 3)
    assert "32 x 48 (height x width) px" in located.summary()
    assert located.task.to_json()["resize"] == LETTERBOX
    for row in csv.DictReader(io.StringIO((located.folder / "predictions.csv").read_text())):
        edges = ("x1", "y1", "x2", "y2")
        pair = [[float(row[f"{of}{x}"]) for x in edges] for of in ("truth_", "")]
        assert float(row["iou"]) == pytest.approx(overlap(*np.array(pair), np), abs=0.02)
    rows = located.predict(turned)
    path = located.export(tmp_path / "served", progress=False)
    served = tf.saved_model.load(str(path)).signatures["serving_default"]
    answer = served(image_bytes=tf.constant(turned))
    np.testing.assert_allclose(answer["box"], [row["box"] for row in rows], atol=0.02)
    assert rows[2]["box"] == pytest.approx(rows[1]["box"], abs=0.2)
    for (width, height), row in zip(((64, 24), (24, 64), (24, 64)), rows, strict=True):
        x1, y1, x2, y2 = row["box"]
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
    assert json.loads((path / "export.json").read_text())["input"]["size"] == [32, 48]
    again = tlkit.open_export(path)
    assert again.about.size == (32, 48)
    assert again.predict(turned)[0]["box"] == pytest.approx(rows[0]["box"], abs=0.02)
    assert "32 x 48 pixels" in (path / "README.md").read_text()


@pytest.mark.parametrize("task", ["boxes", pytest.param("maps", marks=pytest.mark.full)])
def test_the_cards_script_answers_in_pixels_of_the_original(task, request, turned, tmp_path):
    run = request.getfixturevalue("located" if task == "boxes" else "segmented")
    path = run.export(tmp_path / "onnx", format="onnx", progress=False)
    files = [tmp_path / f"{i}.png" for i in range(len(turned))]
    for file, content in zip(files, turned, strict=True):
        file.write_bytes(content)
    rows = standalone_rows(path, files, "tensorflow")
    own = run.predict(files)
    described = json.loads((path / "export.json").read_text())["preprocessing"]
    assert described["fit"] == LETTERBOX
    assert "at its own aspect ratio" in described["resize"]
    assert "at its own aspect ratio" in (path / "README.md").read_text()
    for row, ours in zip(rows, own, strict=True):
        if task == "boxes":
            np.testing.assert_allclose(row["box"], ours["box"], atol=0.5)
        else:
            np.testing.assert_allclose(row["areas"], list(ours["areas"].values()), atol=0.02)


@pytest.mark.full
def test_every_task_may_be_letterboxed(image_folder, net, tmp_path):
    how = {"backbone": net, "engine": "keras", "regime": "small", "progress": False}
    run = tlkit.train(image_folder, out=tmp_path / "run", resize="letterbox", **how)
    assert run.rendering.fit == LETTERBOX
    rows = tlkit.explain(run, sorted(image_folder.rglob("*.png"))[:1], tmp_path / "maps")
    with Image.open(tmp_path / "maps" / rows[0]["overlay"]) as drawn:
        assert drawn.size == (40, 48)
    again = tlkit.train(image_folder, init=run.folder, out=tmp_path / "again", **(
        {k: v for k, v in how.items() if k != "backbone"} | {"epochs": 1}))  # fmt: skip
    assert again.spec.resize == "letterbox"


# Earlier versions, and what is refused


def test_a_run_and_an_export_of_an_earlier_version_are_stretched(located, turned, tmp_path):
    folder = shutil.copytree(located.folder, tmp_path / "old")
    spec = yaml.safe_load((folder / "spec.yaml").read_text())
    del spec["resize"]
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    task = json.loads((folder / "task.json").read_text())
    del task["resize"], task["size"]
    (folder / "task.json").write_text(json.dumps(task))
    reseal(folder)
    old = tlkit.open_run(folder)
    assert (old.rendering.fit, old.task.resize) == ("stretch", "stretch")
    assert old.predict(turned[0])[0]["box"] != located.predict(turned[0])[0]["box"]
    about = about_of("onnx", located.task, located.spec, located.rendering, 1)
    described = json.loads(json.dumps(about.to_json()))
    assert about_from_json(described, folder) == about
    del described["preprocessing"]["fit"]
    assert about_from_json(described, folder).rendering.fit == "stretch"


def test_other_ways_of_resizing_are_refused(data):
    result = CliRunner().invoke(main, ["plan", str(data[0]), "--set", "resize=crop"])
    assert result.exit_code == 2
    assert "resize" in result.stderr
    assert "stretch" in result.stderr


@pytest.mark.parametrize("side", [24, 30])
def test_where_all_images_are_square_it_is_said_that_it_changes_nothing(side, tmp_path):
    random = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (side, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    result = CliRunner().invoke(main, ["plan", str(tmp_path), "--set", "resize=letterbox"])
    assert result.exit_code == 0, result.output
    said = "all images are square; it changes nothing" in " ".join(result.output.split())
    assert said == (side == 24)


def test_a_table_of_boxes_is_read_the_same(tmp_path):
    table = write_boxes(tmp_path / "t", 12)
    result = CliRunner().invoke(main, ["data", "scan", str(table), "--set", "resize=letterbox"])
    assert result.exit_code == 0, result.output
    assert decode_and_resize((table.parent / "images/00.png").read_bytes(), SIZE, BOXED).shape == (
        SIZE, SIZE, 3
    )  # fmt: skip


# Sizes that are no squares


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_oblong_inputs_show_turned_images_upright(fit, orientation):
    image = np.random.default_rng(1).integers(0, 256, (21, 60, 3), np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(image).save(file, "PNG", exif=exif)
    encoded = tf.constant(file.getvalue())
    found, _ = decode_sized(encoded, (24, 40), Rendering(fit=fit))
    expected = resize(decode(encoded), (24, 40), fit)
    assert expected.shape == (24, 40, 3)
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 100, (0, 8, 24, 24)), (10, 100, (10, 0, 4, 40)), (24, 40, (0, 0, 24, 40))],
    ids=str,
)
def test_an_image_lies_in_the_middle_of_an_oblong_input(height, width, expected):
    assert placement(height, width, (24, 40), LETTERBOX) == expected
    assert place(height, width, [24, 40], LETTERBOX) == expected


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    "level", ["light", "medium", pytest.param("strong", marks=pytest.mark.full)]
)
def test_pain_8_a_painted_rectangle_moves_in_an_oblong_input(level, fit):
    height, width, box, size = 160, 90, (25, 50, 65, 110), (64, 112)
    mask = np.zeros((height, width, 1), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    change = augmenter(level, fit=fit)
    label = Annotations((Box("a", tuple(map(float, box))),), height, width)
    column = Localisation(("a",), size=size, resize=fit).encode([label])
    pair = tf.function(
        lambda seed: (column.target(0, change, size, seed), change.mask(mask, size, seed))
    )
    compared = 0
    for number in range(16):
        target, moved = (np.asarray(x) for x in pair(tf.constant([number, 7])))
        assert moved.shape == (*size, 1)
        rows, columns = np.nonzero(moved[..., 0] == 1)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        if found.min() < 2 or (found > np.array([112, 64] * 2) - 2).any():
            continue
        # Around what is turned after it was cut the box may be larger than what is seen.
        wide = 1.6 if level == "light" else 4.5
        np.testing.assert_allclose(target[1:] * ([112, 64] * 2), found, atol=wide)
        compared += 1
    assert compared > 4


@pytest.mark.full
@pytest.mark.parametrize("resize_", ["stretch", "letterbox"])
def test_an_oblong_run_answers_with_maps_and_through_onnx(data, turned, resize_, tmp_path):
    how = {"backbone": {"name": "MobileNet", "alpha": 0.25, "weights": "none"}, "epochs": 1}
    how |= {"image_size": "32x64", "regime": "small", "engine": "keras", "augmented_copies": 1}
    run = tlkit.train(data[0], out=tmp_path / "run", resize=resize_, progress=False, **how)
    assert run.model.output_shape == (None, 32, 64, 2)
    files = [tmp_path / f"{i}.png" for i in range(len(turned))]
    for file, content in zip(files, turned, strict=True):
        file.write_bytes(content)
    ours = run.predict(files, masks=tmp_path / "m")
    with Image.open(ours[1]["mask"]) as image:
        assert image.size == (24, 64)
    path = run.export(tmp_path / "onnx", format="onnx", progress=False)
    for row, own in zip(standalone_rows(path, files, "tensorflow"), ours, strict=True):
        np.testing.assert_allclose(row["areas"], list(own["areas"].values()), atol=0.03)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("360x", "image_size: Allowed: pixels of the side of a square, such as 224, or HEIGHTx"),
        ("0x32", "image_size: should be greater than 0"),
        ("32x20000", "image_size: should be less than or equal to 16384"),
        ("31x64", "image_size: too small for MobileNetV2. Allowed: 32 pixels or more"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(value, message, data):
    result = CliRunner().invoke(main, ["plan", str(data[1]), "--image-size", value])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_model_of_ones_own_is_fed_squares(data, net):
    with pytest.raises(SpecError, match="a model of your own is fed squares"):
        tlkit.plan(data[1], backbone=net, image_size=(32, 48), progress=False)


def test_sizes_are_read_as_people_write_them():
    for value, size in (
        (64, 64),
        ("64", 64),
        ("64x64", 64),
        ("48X64", (48, 64)),
        ((48, 64), (48, 64)),
    ):
        assert make_spec({"image_size": value}).size == size
    spec = make_spec({"image_size": "48x64"})
    assert make_spec(yaml.safe_load(spec.to_yaml())) == spec
