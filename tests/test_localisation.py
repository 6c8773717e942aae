"""One object an image: its class and its box, from the data to the export."""

from __future__ import annotations

import csv
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.commands.train import resume
from tlkit.data.annotations import Annotations, Box
from tlkit.data.box_targets import BoxTargets
from tlkit.data.boxes import Boxes
from tlkit.data.example import Example
from tlkit.data.feed.augment import augmenter
from tlkit.data.feed.pipeline import Draws, batches
from tlkit.data.readers.open import open_source
from tlkit.data.scan.contact_sheet import BOXES
from tlkit.data.scan.contact_sheet import _rows as sheet_rows
from tlkit.data.scan.scan import scan
from tlkit.errors import DataError, Interrupted, SpecError
from tlkit.features.rows import Rows
from tlkit.planning import rules
from tlkit.progress import Progress
from tlkit.solver import located
from tlkit.solver.l2_selection import Selection
from tlkit.solver.located import STAGES, STRENGTHS, _members, _solved, solve_located
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.box_metrics import centred, corners, inside, overlap
from tlkit.tasks.localisation import Localisation
from tlkit.tasks.pooled import attach

SIZE = 32
COLOURS = {"blue": (40, 80, 220), "red": (220, 60, 40)}


def paint(random, width=64, height=48):
    """Return an image of noise with one rectangle, its colour's name, and its corners."""
    name = ("blue", "red")[int(random.integers(2))]
    pixels = random.integers(90, 150, (height, width, 3), dtype=np.uint8)
    w, h = (int(random.integers(side // 4, side // 2)) for side in (width, height))
    x, y = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
    pixels[y : y + h, x : x + w] = COLOURS[name]
    return Image.fromarray(pixels), name, (x, y, x + w, y + h)


def write_boxes(folder, count=40, seed=0):
    """Write images and their table of boxes; return the table's path."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = ["image,label,x1,y1,x2,y2"]
    for i in range(count):
        image, name, box = paint(random)
        image.save(folder / "images" / f"{i:02d}.png")
        rows.append(f"images/{i:02d}.png,{name},{','.join(map(str, box))}")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def fields(net, **more):
    return {"backbone": net, "engine": "keras", "batch_size": 8, "progress": False, **more}


@pytest.fixture(scope="module")
def run(table, net, tmp_path_factory):
    return tlkit.train(table, out=tmp_path_factory.mktemp("runs") / "run", **fields(net))


# The whole way


def test_boxes_in_a_table_are_localised_by_a_solved_head(run):
    assert run.spec.task == "localisation"
    (phase,) = run.plan["phases"]
    assert (phase["method"], phase["views"]) == ("solve", 8)
    test = run.metrics["test"]
    assert test["accuracy"] > 0.8
    assert test["mean_iou"] > 0.5
    assert set(test["per_class"]) == {"blue", "red"}
    val = run.metrics["val"]
    assert list(val) == [
        "loss", "localisation_score", "accuracy", "mean_iou", "localisation_accuracy"
    ]  # fmt: skip
    score = (val["mean_iou"] + val["localisation_accuracy"]) / 2
    assert val["localisation_score"] == pytest.approx(score, abs=1e-4)
    score = (test["mean_iou"] + test["localisation_accuracy"]) / 2
    assert test["localisation_score"] == pytest.approx(score)
    low, high = test["mean_iou_interval95"]
    assert low < test["mean_iou"] < high
    for name in ("iou.png", "worst.png"):
        assert (run.folder / name).stat().st_size > 1000


def test_predictions_hold_truth_and_answer_in_pixels_of_the_image(run, table):
    given = {row["image"]: row for row in csv.DictReader(io.StringIO(table.read_text()))}
    text = (run.folder / "predictions.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == run.metrics["test"]["examples"]
    ious = []
    for row in rows:
        truth = [float(row[f"truth_{x}"]) for x in ("x1", "y1", "x2", "y2")]
        assert truth == [float(given[row["id"]][x]) for x in ("x1", "y1", "x2", "y2")]
        found = [float(row[x]) for x in ("x1", "y1", "x2", "y2")]
        ious.append(overlap(np.array(truth), np.array(found), np))
        assert float(row["iou"]) == pytest.approx(ious[-1], abs=0.01)
    assert np.mean(ious) == pytest.approx(run.metrics["test"]["mean_iou"], abs=0.01)


def test_a_run_is_evaluated_on_its_own_test_part_and_on_another_table(run, tmp_path):
    own = run.evaluate(progress=False)
    for name in ("accuracy", "mean_iou", "localisation_accuracy"):
        assert own[name] == pytest.approx(run.metrics["test"][name], abs=1e-6)
    other = run.evaluate(write_boxes(tmp_path / "other", 6, seed=5), progress=False)
    assert other["examples"] == 6
    result = CliRunner().invoke(main, ["evaluate", str(run.folder)])
    assert result.exit_code == 0, result.stderr
    assert "localised (right class, IoU 0.5 or more" in result.stdout


@pytest.mark.full
def test_blocks_are_fine_tuned_and_a_stopped_run_ends_with_the_same_numbers(table, net, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    how = fields(
        net, regime="medium", epochs=2, augmented_copies=1, optimizer={"learning_rate": 0.001}
    )
    whole = tlkit.train(table, out=tmp_path / "whole", **how)
    assert [p["method"] for p in whole.plan["phases"]] == ["solve", "fit"]
    with pytest.raises(Interrupted):
        tlkit.train(table, out=tmp_path / "run", callbacks=[Stop()], **how)
    resumed = resume(tmp_path / "run", progress=False)
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert resumed.metrics["val"] == whole.metrics["val"]


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    """The path of an export of the run."""
    return run.export(tmp_path_factory.mktemp("served") / "savedmodel", progress=False)


def test_an_export_answers_with_boxes_in_pixels_of_the_original(run, served, table):
    image = table.parent / "images" / "00.png"
    own = run.predict(image)[0]
    signatures = tf.saved_model.load(str(served)).signatures
    pixels = np.asarray(Image.open(image))[None]
    for answers in (
        signatures["serving_default"](image_bytes=tf.constant([image.read_bytes()])),
        signatures["serve_pixels"](images=tf.constant(pixels)),
    ):
        np.testing.assert_allclose(answers["box"][0], own["box"], atol=0.02)
        assert answers["label"][0].numpy().decode() == own["label"]
        assert float(answers["score"][0]) == pytest.approx(own["score"], abs=1e-5)
    result = CliRunner().invoke(main, ["predict", str(served), str(image), "--json"])
    assert json.loads(result.stdout)[0]["box"] == pytest.approx(own["box"], abs=0.02)


def turned_copy(image: Image.Image, orientation: int) -> bytes:
    """Return a PNG stored turned, which EXIF turns back."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.transpose(undo).save(file, "PNG", exif=exif)
    return file.getvalue()


def test_a_turned_copy_of_an_image_has_the_same_box_also_in_an_export(run, served, tmp_path):
    image, _, _ = paint(np.random.default_rng(3), 90, 60)
    image.save(tmp_path / "plain.png")
    (tmp_path / "turned.png").write_bytes(turned_copy(image, 6))
    plain, turned = run.predict([tmp_path / "plain.png", tmp_path / "turned.png"])
    assert turned["box"] == pytest.approx(plain["box"], abs=0.1)
    signature = tf.saved_model.load(str(served)).signatures["serving_default"]
    answer = signature(image_bytes=tf.constant([(tmp_path / "turned.png").read_bytes()]))
    np.testing.assert_allclose(answer["box"][0], turned["box"], atol=0.1)


@pytest.mark.parametrize("size", [(20, 200), (200, 20)])
def test_the_box_in_a_tall_or_wide_image_lies_inside_of_it(run, size, tmp_path):
    image, _, _ = paint(np.random.default_rng(1), *size)
    image.save(tmp_path / "a.png")
    x1, y1, x2, y2 = run.predict(tmp_path / "a.png")[0]["box"]
    assert 0 <= x1 < x2 <= size[0]
    assert 0 <= y1 < y2 <= size[1]


def test_images_are_drawn_with_their_answers(run, table, tmp_path):
    image = str(table.parent / "images" / "00.png")
    words = ["predict", str(run.folder), image, "--overlay", str(tmp_path / "drawn")]
    result = CliRunner().invoke(main, [*words, "--csv", str(tmp_path / "a.csv")])
    assert result.exit_code == 0, result.stderr
    drawn = Image.open(tmp_path / "drawn" / "00.png")
    assert drawn.size == (64, 48)
    assert not np.array_equal(np.asarray(drawn), np.asarray(Image.open(image)))
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == "path,label,score,overlay,x1,y1,x2,y2,p_blue,p_red,error"
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "--overlay" in result.stderr
    result = CliRunner().invoke(main, ["predict", str(run.folder), image])
    assert "box " in result.stdout


def test_a_task_whose_answers_have_no_place_is_not_drawn(tiny_run, image_folder, tmp_path):
    with pytest.raises(SpecError, match="overlay: the answers of the task classification can"):
        tiny_run.predict(image_folder, overlay=tmp_path / "drawn")
    assert not (tmp_path / "drawn").exists()


def test_what_training_sees_is_drawn_with_its_boxes(table, net, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Localisation, "shown", lambda self, image, target: (seen.append(target), image)[1]
    )
    how = fields(net, augment="light")
    how.pop("batch_size"), how.pop("engine")
    tlkit.preview(table, tmp_path / "p.png", images=2, draws=2, **how)
    assert len(seen) == 6
    assert not np.array_equal(seen[0], seen[2])  # moved with its image


@pytest.mark.parametrize(
    "asked",
    [
        {"mixup": 0.2}, {"cutmix": 1.0}, {"head": {"hidden": [8]}}, {"head": {"refit": True}},
        {"optimizer": {"label_smoothing": 0.1}, "regime": "medium"},
    ],
    ids=str,
)  # fmt: skip
def test_what_has_no_meaning_for_boxes_is_refused(table, net, asked):
    with pytest.raises(SpecError, match="Allowed for localisation: |no effect"):
        tlkit.plan(table, **fields(net, **asked))


def test_fine_tuning_for_boxes_takes_adam_and_more_epochs(table, net):
    phase = tlkit.plan(table, regime="medium", **fields(net, batch_size=32)).phases[-1]
    assert (phase.name, phase.optimizer, phase.epochs) == ("finetune", "adam", 60)
    assert phase.learning_rate == pytest.approx(2e-4)
    assert [rules.box_epochs(n).value for n in (503, 100_000)] == [24, 6]
    asked = fields(net, batch_size=32, optimizer={"name": "sgd"})
    phase = tlkit.plan(table, regime="medium", **asked).phases[-1]
    assert (phase.optimizer, phase.learning_rate) == ("sgd", pytest.approx(1e-3))


def test_the_task_can_be_asked_for_otherwise(table, net):
    made = tlkit.plan(table, task="classification", **fields(net))
    assert made.views == 1


def test_columns_of_targets_are_refused_for_boxes(table, net):
    with pytest.raises(SpecError, match="table.targets: a box is in the columns x1, y1, x2 and y2"):
        tlkit.plan(table, task="localisation", table={"targets": ["x1"]}, **fields(net))


# Numbers


def test_boxes_are_turned_into_targets_and_back():
    boxes = np.random.default_rng(0).uniform(0, 1, (50, 2, 2))
    boxes = np.sort(boxes, axis=1).reshape(-1, 4)
    np.testing.assert_allclose(corners(centred(boxes), np), boxes, atol=1e-4)
    np.testing.assert_allclose(inside(centred(boxes), np), boxes, atol=1e-4)


def test_overlap_agrees_with_keras():
    random = np.random.default_rng(0)
    one, other = (np.sort(random.uniform(0, 1, (20, 2, 2)), axis=1).reshape(-1, 4) for _ in "ab")
    compute = keras.utils.bounding_boxes.compute_iou
    whole = np.asarray(compute(one.astype("float32"), other.astype("float32"), "xyxy"))
    np.testing.assert_allclose(overlap(one, other, np), np.diag(whole), atol=1e-4)


def test_images_left_out_in_closed_form_are_those_left_out_one_by_one():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 30)), random.normal(size=(12, 2))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    groups, l2 = np.array([0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 5]), float(STRENGTHS[4])
    alpha, found = _solved(x @ x.T / 30, y, l2, _members(groups))
    total, ones = 0.0, np.ones((12, 1))
    rows = np.hstack([ones, x])
    penalty = np.diag([0.0, *[30 * l2] * 30])  # the bias is free
    whole = np.linalg.solve(rows.T @ rows + penalty, rows.T @ y)
    np.testing.assert_allclose(x.T @ alpha / 30, whole[1:], atol=1e-9)
    for group in range(6):
        out = groups == group
        inner = rows[~out].T @ rows[~out] + penalty
        weights = np.linalg.solve(inner, rows[~out].T @ y[~out])
        total += np.square(y[out] - rows[out] @ weights).sum()
    assert found == pytest.approx(total / y.size, rel=1e-6)


def as_rows(x):
    """Return features as the cache gives them, in two shards."""
    half = len(x) // 2
    order = np.arange(len(x))
    return Rows([x[:half], x[half:]], (order >= half).astype(int), order % half)


@pytest.mark.parametrize("classes", [1, 2])
def test_a_solved_box_is_ridge_regression_on_what_classes_share_and_have_alone(
    classes, monkeypatch
):
    """In several blocks of features; against the primal problem, written out."""
    random, (images, others) = np.random.default_rng(0), (24, 6)
    x, other = (random.normal(size=(n, 3, 4, 5)).astype(np.float32) for n in (images, others))
    x[..., 4] = 7.0  # tells nothing
    y, val_y = (np.sort(random.uniform(0, 1, (n, 2, 2)), axis=1).reshape(n, 4) for n in (24, 6))
    y, val_y = (np.insert(rows, 0, 0, axis=1).astype(np.float32) for rows in (y, val_y))
    y[:, 0] = np.arange(images) % 12 % classes
    y[5, 1:] = -1  # does not show the object
    rows = np.flatnonzero(y[:, 1] >= 0)
    task = Localisation(("a", "b")[:classes]).fit(Boxes(y[rows], np.zeros((23, 2), np.int32)))
    monkeypatch.setattr(located, "BLOCK_BYTES", 2 * 4 * 23 * 12)
    stages, how = [], Selection(views=2, choice="validation")
    head = solve_located(
        *(as_rows(x), y, as_rows(other), val_y, task, lambda maps: maps.mean(axis=(1, 2))),
        *(how, np.arange(12), stages.append),
    )
    assert stages == list(STAGES)
    flat = x.reshape(images, -1).astype(float)
    mean, scale = flat[rows].mean(axis=0), flat[rows].std(axis=0)
    flat, val_flat = (
        np.divide(
            z.reshape(len(z), -1) - mean, scale, where=scale > 1e-6, out=np.zeros((len(z), 60))
        )
        for z in (x[rows], other)
    )
    size = np.sqrt(np.square(flat).sum() / len(rows))

    def features(z, p):
        own = located.OWN if classes > 1 else 0.0
        parts = [z, *(np.sqrt(own) * p[:, [k]] * z for k in range(classes))]
        return np.concatenate(parts, axis=1) / size / np.sqrt(1 + own)

    named = np.eye(classes)[y[rows, 0].astype(int)]
    design = features(flat, named)
    centre, targets = design.mean(axis=0), task.scaled(y[rows])
    inner = (design - centre).T @ (design - centre) + head.l2 * np.eye(design.shape[1])
    weights = np.linalg.solve(inner, (design - centre).T @ (targets - targets.mean(axis=0)))
    p = np.full((others, classes), 0.5) if classes > 1 else np.ones((others, 1))
    expected = (features(val_flat, p) - centre) @ weights + targets.mean(axis=0)
    found = other.reshape(others, -1) @ head.box[0] + head.box[1]
    np.testing.assert_allclose(found.reshape(others, classes, 4).mean(axis=1), expected, atol=2e-5)


def test_weights_that_were_solved_give_the_figures_of_their_path(run):
    rows = list(csv.DictReader(io.StringIO((run.folder / "log.csv").read_text())))
    told = [float(row["val_localisation_score"]) for row in rows]
    assert min(abs(x - run.metrics["val"]["localisation_score"]) for x in told) < 1e-4


def test_permuted_class_names_change_names_alone():
    labels = [Annotations((Box(n, (1, 2, 9, 9)),), 10, 20) for n in ("a", "b", "a")]
    rows = Localisation(("a", "b")).encode(labels)[:]
    other = Localisation(("b", "a")).encode(labels)[:]
    np.testing.assert_array_equal(rows[:, 1:], other[:, 1:])
    np.testing.assert_array_equal(rows[:, 0], 1 - other[:, 0])


@pytest.mark.full
def test_one_class_alone_is_localised(net, tmp_path):
    table = write_boxes(tmp_path / "one", 16)
    table.write_text(table.read_text().replace("blue", "thing").replace("red", "thing"))
    made = tlkit.train(table, out=tmp_path / "run", **fields(net))
    assert made.metrics["test"]["accuracy"] == 1.0
    assert made.predict(tmp_path / "one" / "images" / "00.png")[0]["score"] > 0.999


def test_a_head_of_one_class_is_sure_of_it():
    task = Localisation(("thing",), (0.5, 0.5, -1.0, -1.0), (1.0, 1.0, 1.0, 1.0))
    inputs = keras.Input((16, 16, 3))
    labels = [Annotations((Box("thing", (2, 2, 8, 8)),), 10, 10)]
    bias = task.bias(task.encode(labels))
    model = attach(inputs, keras.layers.Conv2D(4, 3)(inputs), task, HeadSpec(), bias)
    row = model.predict(np.ones((1, 16, 16, 3)), verbose=0)[0]
    found = task.decode(row, 10, 10)
    assert (found["label"], found["score"]) == ("thing", pytest.approx(1, abs=1e-3))


# Pains


def test_pain_1_images_without_an_object_are_left_out_and_batches_of_them_are_finite(
    table, net, tmp_path
):
    data = write_boxes(tmp_path / "data", 12)
    lines = data.read_text().splitlines()
    lines[3] = "images/02.png,,,,,"
    data.write_text("\n".join(lines) + "\n")
    result = CliRunner().invoke(main, ["data", "scan", str(data), "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["left_out"] == [{"id": "images/02.png", "reason": "has no box"}]
    task = Localisation(("a", "b"), (0.5, 0.5, -1, -1), (1, 1, 1, 1))
    truth = np.array([[0, -1, -1, -1, -1], [1, -1, -1, -1, -1]], np.float32)
    answer = np.array([[0.5, 0.5, 0.5, 0.5, -1, -1]] * 2, np.float32)
    assert float(task.loss()(truth, answer)) == 0.0


def test_pain_2_degenerate_and_outside_boxes_are_dropped_and_clipped_each_with_its_line(tmp_path):
    data = write_boxes(tmp_path / "data", 12)
    lines = data.read_text().splitlines()
    lines[2] = "images/01.png,red,10,10,10,30"
    lines[3] = "images/02.png,red,-5,10,30,90"
    lines[4] = "images/03.png,red,70,60,90,80"
    data.write_text("\n".join(lines) + "\n")
    found = json.loads(CliRunner().invoke(main, ["data", "scan", str(data), "--json"]).stdout)
    places = {kind: [x["place"] for x in found["boxes"][kind]] for kind in ("clipped", "dropped")}
    assert places == {
        "clipped": [f"{data}, line 4"], "dropped": [f"{data}, line 3", f"{data}, line 5"]
    }  # fmt: skip
    reasons = {x["id"]: x["reason"] for x in found["left_out"]}
    assert reasons["images/01.png"] == f"its box is dropped: 0 x 20 pixels ({data}, line 3)"
    assert found["boxes"]["inside"] == pytest.approx(9 / 12, abs=1e-4)


def test_pain_5_boxes_are_counted_doubted_and_drawn(tmp_path):
    data = write_boxes(tmp_path / "data", 12)
    words = ["data", "scan", str(data), "--sheet", str(tmp_path / "sheet.png"), "--json"]
    summary = json.loads(CliRunner().invoke(main, words).stdout)
    assert len(summary["boxes"]["drawn"]) == 9
    assert (f"{BOXES}: 12", 9) in [(head, len(tiles)) for head, tiles in sheet_rows(summary)]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (sheet == (255, 60, 0)).all(axis=-1).sum() > 500
    result = CliRunner().invoke(main, words[:-1])
    assert result.exit_code == 0, result.stderr
    assert "12 boxes in 12 images, 100.0% wholly inside" in result.output
    lines = data.read_text().splitlines()
    wide = [line.split(",") for line in lines[1:]]
    wide = [[*row[:4], str(int(row[4]) + 60), row[5]] for row in wide]
    data.write_text("\n".join([lines[0], *map(",".join, wide)]) + "\n")
    result = CliRunner().invoke(main, ["data", "scan", str(data)])
    assert "are these x, y, width and height" in result.output.replace("\n", " ")


def whole(change, *at):
    """Return the matrix of a whole change."""
    cut, onward = change.matrices(*at)
    return onward @ cut


@pytest.mark.parametrize("level", ["light", "medium", "strong"])
def test_pain_8_a_painted_rectangle_moves_with_its_image(level):
    height, width, box = 90, 140, (50, 30, 90, 60)
    image = np.zeros((height, width, 1), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    change = augmenter(level)
    corners_ = np.array([[x / width, y / height, 1] for x in box[::2] for y in box[1::2]])
    pair = tf.function(
        lambda seed: (change.mask(image, 64, seed), whole(change, height, width, 64, seed))
    )
    compared, mirrored = 0, 0
    for number in range(30):
        mask, matrix = (np.asarray(x) for x in pair(tf.constant([number, 7])))
        moved = (matrix @ corners_.T)[:2].T
        mirrored += np.linalg.det(matrix) < 0
        if moved.min() < 0.02 or moved.max() > 0.98:
            continue  # what has left it may be reflected at its edge
        expected = np.array([*moved.min(axis=0), *moved.max(axis=0)]) * 64
        left, top = (max(0, int(x) - 3) for x in expected[:2])
        right, low = (int(x) + 4 for x in expected[2:])  # beyond, a reflection may be
        rows, columns = np.nonzero(mask[top:low, left:right, 0])
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(expected, np.add(seen, [left, top] * 2), atol=1.6)
        compared += 1
    assert compared > 8
    assert 5 < mirrored < 25


def test_pain_8_targets_move_in_the_pipeline_and_for_kept_views_alike(table):
    image, name, box = paint(np.random.default_rng(0))
    task = Localisation(("blue", "red"))
    label = Annotations((Box(name, tuple(map(float, box))),), 48, 64)
    column, change = task.encode([label]), augmenter("medium")
    example = Example("a", label, pixels=np.asarray(image))
    drawn = Draws(seed=3, augment=change, epochs=range(2))
    made = batches([example], column, SIZE, 1, drawn)
    moved = [np.asarray(targets)[0] for _, targets in made]
    assert not np.allclose(moved[0], moved[1])
    seeds = np.array([[5, 6]], np.int32)
    kept = column.seen_by(change, seeds, SIZE)[:]
    row = tf.function(lambda: column.target(0, change, SIZE, tf.constant(seeds[0])))()
    np.testing.assert_allclose(kept[0], row, atol=1e-5)
    assert isinstance(column, Boxes)
    assert kept[0][0] == column[:][0][0]


@pytest.mark.parametrize("level", ["light", "medium"])
def test_pain_8_a_rectangle_in_an_image_that_roams_moves_with_it(level):
    height, width, box = 90, 140, (50, 30, 90, 60)
    image = np.full((height, width, 3), 120, np.float32)
    image[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    change = augmenter(level, roams=True)
    label = Annotations((Box("a", tuple(map(float, box))),), height, width)
    column = Localisation(("a",)).encode([label])
    pair = tf.function(lambda seed: (change(image, 96, seed), column.target(0, change, 96, seed)))
    sides = []
    for number in range(12):
        seen, target = (np.asarray(x) for x in pair(tf.constant([number, 7])))
        red = seen[..., 0] - seen[..., 1] > 100
        rows, columns = np.nonzero(red)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # Around what is turned after it was cut the box may be larger than what is seen.
        wide = 4.5 if level == "medium" else 1.6
        np.testing.assert_allclose(target[1:] * 96, found, atol=wide)
        sides.append(np.ptp(columns))
    assert np.ptp(sides) > 10  # larger and smaller


def test_an_object_that_an_image_no_longer_shows_is_absent():
    class Shift:
        def matrices(self, height, width, size, seed):
            return tf.eye(3), tf.constant([[1.0, 0, 0.9], [0, 1, 0], [0, 0, 1]])

    column = Boxes(np.array([[1, 0.1, 0.1, 0.5, 0.5]], np.float32), np.array([[10, 10]], np.int32))
    moved = column.seen_by(Shift(), np.array([[1, 1]], np.int32), SIZE)[:]
    np.testing.assert_array_equal(moved, [[1, -1, -1, -1, -1]])


def frames(tmp_path, declared):
    """Write VOC files of images that EXIF turns by a quarter, with the sizes `declared`."""
    random = np.random.default_rng(0)
    for i, frame in enumerate(declared):
        image, name, (x1, y1, x2, y2) = paint(random, 64, 48)
        (tmp_path / f"{i}.png").write_bytes(turned_copy(image, 6))
        size, box = (64, 48), (x1, y1, x2, y2)
        if frame == "stored":  # turned to the left: 48 x 64
            size, box = (48, 64), (y1, 64 - x2, y2, 64 - x1)
        write_voc(tmp_path / f"{i}.xml", size, name, box)
    return tmp_path


def write_voc(path, size, name, box, extra=""):
    tags = "".join(
        f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    path.write_text(
        f"<annotation><filename>{path.stem}.png</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size><object><name>{name}</name>{extra}"
        f"<bndbox>{tags}</bndbox></object></annotation>"
    )


def scanned(data):
    source = open_source(str(data), targets=BoxTargets())
    examples = [e for part in source.parts.values() for e in part]
    found = scan(examples, Progress(quiet=True))
    return source, found, found.hashed(examples)


def test_pain_12_declared_sizes_tell_the_frame_of_boxes_on_turned_images(tmp_path):
    labels = {}
    for frame in ("stored", "upright"):
        (tmp_path / frame).mkdir()
        _, found, examples = scanned(frames(tmp_path / frame, [frame] * 6))
        assert found.annotations.report["frame"] == frame
        labels[frame] = [(e.label.plain(), e.label.height, e.label.width) for e in examples]
    assert labels["stored"] == labels["upright"]
    (tmp_path / "mixed").mkdir()
    with pytest.raises(DataError, match="annotations: of images that are turned by their EXIF"):
        scanned(frames(tmp_path / "mixed", ["stored", "upright"] * 3))


def test_pain_12_it_is_said_in_what_frame_boxes_of_turned_images_are_taken(tmp_path):
    result = CliRunner().invoke(main, ["data", "scan", str(frames(tmp_path, ["stored"] * 6))])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "boxes of 6 images turned by the EXIF orientation are meant in the image as" in text


def test_annotations_of_an_image_of_another_size_are_not_believed(tmp_path):
    for i in range(6):
        image, name, box = paint(np.random.default_rng(i))
        image.save(tmp_path / f"{i}.png")
        write_voc(tmp_path / f"{i}.xml", (64, 48) if i else (640, 480), name, box)
    _, found, _ = scanned(tmp_path)
    assert found.left_out == {
        "0.png": "its annotations are of an image of 640 x 480 pixels, the image has 64 x 48"
    }


def test_attached_head_reads_the_box_off_the_whole_map():
    task = Localisation(("a", "b"), (0.5, 0.5, -1.0, -1.0), (1.0, 1.0, 1.0, 1.0))
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, strides=4, name="features")(inputs)
    model = attach(inputs, features, task, HeadSpec())
    assert model.output.shape == (None, 6)
    assert model.get_layer("head_box").kernel.shape[0] == np.prod(features.shape[1:])


def test_difficult_objects_are_trained_on_and_not_counted():
    task = Localisation(("a", "b"), (0.5, 0.5, -1.0, -1.0), (1.0, 1.0, 1.0, 1.0))
    labels = [Annotations((Box("a", (2, 2, 8, 8), aside),), 10, 10) for aside in ("", "difficult")]
    outputs = np.array([[0.9, 0.1, 0.5, 0.5, np.log(0.6), np.log(0.6)], [0.1, 0.9, 0, 0, -1, -1]])
    found = task.evaluator()
    found.update(["1", "2"], labels, task.encode(labels)[:], outputs.astype(np.float32))
    result = found.result()
    assert (result["examples"], result["difficult_left_out"]) == (1, 1)
    assert result["mean_iou"] == pytest.approx(1, abs=1e-5)
    other = task.evaluator()
    other.update(["2"], labels[1:], task.encode(labels)[1:], outputs[1:].astype(np.float32))
    with pytest.raises(DataError, match="all 1 objects are marked as difficult"):
        other.result()
