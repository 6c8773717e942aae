"""Detection by regions: maps read at boxes, windows, and the layers that are solved on them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from detected import SIZE, write_net, write_objects

import tlkit
from tlkit.cli.main import main
from tlkit.errors import DataError, SpecError
from tlkit.solver import window_samples
from tlkit.solver.regions import STEPS, STRENGTHS, recall, solve_regions
from tlkit.solver.window_layers import Softmax, loss_of, ridge, scale_of
from tlkit.solver.window_samples import Views
from tlkit.spec.parts import HeadSpec
from tlkit.tasks import regions
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.regions import BINS, KEPT, MOST_WINDOWS, RegionDetection
from tlkit.tasks.registry import task_from_json
from tlkit.tasks.roi_align import SAMPLES, position_sensitive, vectors, weights_at


@pytest.fixture(scope="module")
def maps():
    return np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def boxes():
    low = np.random.default_rng(1).uniform(0.1, 0.4, (2, 5, 2))
    return np.concatenate([low, low + 0.45], axis=-1).astype(np.float32)


def test_vectors_are_crop_and_resize_and_the_mean_of_each_bin(maps, boxes):
    bins, (height, width) = 3, maps.shape[1:3]
    points = bins * SAMPLES
    first, last = 0.5 / points, 1 - 0.5 / points
    cropped = []
    for image, own in zip(maps, boxes, strict=True):
        x1, y1, x2, y2 = own.T
        # TensorFlow counts from the middle of the first cell to that of the last.
        ends = [
            ((low + (high - low) * share) * side - 0.5) / (side - 1)
            for share in (first, last)
            for low, high, side in ((y1, y2, height), (x1, x2, width))
        ]
        found = tf.image.crop_and_resize(
            image[None], np.stack(ends, axis=1), np.zeros(len(own), int), (points, points)
        ).numpy()
        cropped.append(found.reshape(len(own), bins, SAMPLES, bins, SAMPLES, -1).mean(axis=(2, 4)))
    for image, own, expected in zip(maps, boxes, cropped, strict=True):
        rows = expected.reshape(len(own), -1)
        np.testing.assert_allclose(vectors(image, own, bins), rows, atol=1e-5)


def test_a_linear_layer_on_vectors_is_position_sensitive_pooling(maps, boxes):
    weights = np.random.default_rng(2).normal(size=(BINS**2 * 3 + 1, 4)).astype(np.float32)
    [(kernel, bias)] = regions.layer_weights(weights, [3])
    scored = (maps @ kernel[0, 0] + bias).astype(np.float32)
    found = keras.ops.convert_to_numpy(position_sensitive(scored, boxes, BINS))
    for image, own, rows in zip(maps, boxes, found, strict=True):
        expected = vectors(image, own, BINS) @ weights[:-1] + weights[-1]
        np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize("edges", [(0.0, 1.0), (0.3, 0.31), (0.95, 1.0), (-0.5, 1.5)])
def test_weights_of_each_bin_sum_up_to_one(edges):
    low, high = (np.array([x], np.float32) for x in edges)
    weights = weights_at(low, high, 4, 6, np)
    assert weights.shape == (1, 4, 6)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)


def test_a_map_of_places_says_where_bins_are():
    rows = np.tile((np.arange(10) + 0.5)[:, None, None] / 10, (1, 10, 1)).astype(np.float32)
    found = vectors(rows, np.array([[0.1, 0.2, 0.9, 0.8]]), 2).reshape(2, 2)
    np.testing.assert_allclose(found, [[0.35, 0.35], [0.65, 0.65]], atol=1e-6)


def test_boxes_are_moved_to_where_they_should():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (2, 20, 2))
    one, other = (np.concatenate([x, x + rng.uniform(0.1, 0.4, x.shape)], axis=1) for x in low)
    np.testing.assert_allclose(regions.moved(one, regions.moves_to(one, other), np), other)


def test_boxes_that_are_moved_away_still_hold_something():
    far = np.array([[5.0, -5.0, 9.0, -9.0], [-9.0, 9.0, -9.0, 9.0]])
    found = regions.moved(np.array([[0.1, 0.1, 0.3, 0.4]] * 2), far, np)
    assert found.min() >= 0
    assert found.max() <= 1 + regions.LEAST_SIDE
    assert (found[:, 2:] > found[:, :2]).all()


def test_windows_have_the_shapes_of_the_boxes_and_cover_the_image():
    sides = np.array([[0.25, 0.5]] * 5 + [[0.5, 0.25]] * 3)
    shapes = regions.shapes_of(sides)
    assert shapes == ((0.25, 0.5), (0.5, 0.25))
    found = regions.windows(shapes)
    assert {tuple(row) for row in (found[:, 2:] - found[:, :2]).round(4).tolist()} == set(shapes)
    assert found.min() == 0
    assert found.max() == pytest.approx(1)
    # One lies from the next by a third of its side at most: 1 + 0.75 / (0.25 / 3), 1 + 3.
    assert len(found) == 2 * 10 * 4


def test_small_objects_do_not_make_windows_without_end():
    found = regions.windows(((0.01, 0.01), (0.02, 0.01)))
    assert 0.5 * MOST_WINDOWS < len(found) <= MOST_WINDOWS


def test_recall_is_the_share_of_objects_with_a_window():
    task = RegionDetection(("a",), 32, shapes=((0.5, 0.5),))
    boxes = np.zeros((2, 2, 7))
    boxes[0, 0] = (0, 0, 0, 0.5, 0.5, 1, 1)  # a window's own place
    boxes[0, 1] = (0, 0.4, 0.4, 0.5, 0.5, 1, 1)  # far smaller than any
    assert recall(task, boxes) == 0.5
    boxes[0, 1, 5] = 0
    assert recall(task, boxes) == 1
    assert recall(task, boxes[1:]) is None


def test_no_box_at_all_gives_no_windows():
    with pytest.raises(DataError, match="have no box.*Allowed: at least one. Received: none"):
        RegionDetection(("a",), 32).fit(np.zeros((3, 2, 7)))


def test_the_softmax_is_at_its_lowest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(int) + (x[:, 1] > 0.8)
    l2 = 0.05

    def objective(weights):
        return loss_of(x, y, weights) + l2 / 2 * np.square(weights[:-1]).sum()

    found = Softmax(x, 3).solve(x, y, l2)
    lowest = objective(found)
    assert lowest < objective(np.zeros_like(found)) - 0.2
    for _ in range(20):
        assert objective(found + rng.normal(0, 0.03, found.shape)) > lowest


@pytest.mark.parametrize("count", [8, 200])
def test_ridge_is_at_its_lowest_of_few_and_of_many(count):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 20)).astype(np.float32)
    targets = (x[:, :2] @ [[1, 0], [2, 1]] + 3).astype(np.float32)
    for l2, weights in zip((10.0, 1.0), ridge(x, targets, (10.0, 1.0)), strict=True):
        residual = x @ weights[:-1] + weights[-1] - targets
        # The slope is nothing: of the kernel with its penalty, of the bias without.
        np.testing.assert_allclose(x.T @ residual + l2 * weights[:-1], 0, atol=2e-3)
        np.testing.assert_allclose(residual.sum(axis=0), 0, atol=2e-3)


def test_scaling_is_folded_into_the_weights():
    x = np.random.default_rng(0).normal(5, 3, (40, 4)).astype(np.float32)
    x[:, 2] = 7  # never changes
    weights = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    scale = scale_of(x)
    folded = scale.folded(weights)
    expected = scale.apply(x.copy()) @ weights[:-1] + weights[-1]
    np.testing.assert_allclose(x @ folded[:-1] + folded[-1], expected, atol=1e-4)
    assert np.abs(folded[2]).max() == 0


SIDE, CLASSES = 12, ("round", "square")


def planted(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return maps with two objects each, of two classes, that fade towards their edges; one in
    seven is another thing. Every fifth image is empty."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.05, (count, SIDE, SIDE, 4)).astype(np.float32)
    boxes = np.zeros((count, 2, 7), np.float32)
    cells = np.arange(SIDE) + 0.5
    for i in range(count):
        if i % 5 == 4:
            continue
        for place in range(2):
            sides = rng.uniform(3, 5, 2)
            low = rng.uniform(0, (6, SIDE) - sides) + np.array((6 * place, 0))
            across, down = (np.abs(cells - at) for at in low + sides / 2)
            near = np.exp(-((across / sides[0]) ** 2) * 4) * np.exp(
                -((down / sides[1]) ** 2)[:, None] * 4
            )
            number = int(rng.integers(0, 2))
            other = rng.random() < 1 / 7
            for channel in (0, 3 if other else 1 + number):
                x[i, :, :, channel] += near
            if not other:
                boxes[i, place] = (number, *low / SIDE, *(low + sides) / SIDE, 1, 1)
    return x, boxes


def solved(x, boxes, val_x, val_boxes):
    """Return the task, its model, and what was found."""
    task = RegionDetection(CLASSES, 8 * SIDE).fit(boxes)
    level = keras.Input(x.shape[1:])
    model = keras.Model(level, task.head({8: level}, HeadSpec()))
    stages = {
        stage: keras.Model(level, model.get_layer(regions.stage_name(stage)).output)
        for stage in (1, 2)
    }

    def install(stage, weights):
        [part] = regions.layer_weights(weights, [x.shape[-1]])
        model.get_layer(regions.layer_name(stage, 8)).set_weights(part)

    def judge(stage, levels):
        return stages[stage].predict_on_batch(levels[0])

    parts = [
        Views(lambda rows, own=own: (own[rows],), truth)
        for own, truth in ((x, boxes), (val_x, val_boxes))
    ]
    steps = []
    how = solve_regions(*parts, task, judge, install, advance=steps.append)
    assert len(steps) == STEPS
    return task, model, how


@pytest.fixture(scope="module")
def found():
    x, boxes = planted(60, 0)
    return solved(x, boxes, *planted(20, 1))


def test_what_was_planted_is_found(found):
    task, model, how = found
    x, boxes = planted(25, 2)
    outputs = model.predict(x, verbose=0)
    assert outputs.shape == (25, min(KEPT, len(task.windows)), 4 + len(CLASSES))
    assert task.whole_metric([(boxes, outputs)]) > 0.85
    assert [step.l2 for step in how.path] == list(STRENGTHS)
    assert min(how.path, key=lambda step: step.val_loss).l2 == how.l2
    assert max(step.val_metric for step in how.path) > 0.85
    assert "stage 1: " in how.reason
    assert "stage 2: " in how.reason


def test_the_second_stage_moves_boxes_nearer(found):
    _task, model, _ = found
    x, boxes = planted(25, 2)
    reached = []
    for stage in (1, 2):
        layer = model.get_layer(regions.stage_name(stage)).output
        answers = keras.Model(model.input, layer).predict(x, verbose=0)
        own = [
            max(
                float(overlap(row[1:5][None], answer[:, :4], np).max()),
                0.0,
            )
            for truth, answer in zip(boxes, answers, strict=True)
            for row in truth[truth[:, 5] > 0]
        ]
        reached.append(np.mean(own))
    assert reached[1] > reached[0] > 0.7


@pytest.mark.full
def test_hard_negatives_teach_what_an_object_is_not(monkeypatch):
    """Without them, things that few windows show are taken for objects more often."""
    data = *planted(60, 0), *planted(20, 1)
    x, boxes = planted(25, 2)
    alarms = {}
    for share in (1e-9, 0.25):
        monkeypatch.setitem(window_samples.SHARES, "hard", share)
        _, model, _ = solved(*data)
        outputs = model.predict(x, verbose=0)
        alone = [
            answer[overlap(answer[:, None, :4], truth[None, :, 1:5], np).max(axis=1) < 0.1]
            for answer, truth in zip(outputs, boxes, strict=True)
        ]
        alarms[share] = float(np.mean([rows[:, 4:].max() for rows in alone if len(rows)]))
    assert alarms[0.25] < alarms[1e-9]


@pytest.mark.full
def test_wide_maps_are_read_along_principal_axes(monkeypatch):
    monkeypatch.setattr(window_samples, "MOST_CHANNELS", 4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0][:4].astype(np.float32)
    (x, boxes), (val_x, val_boxes) = planted(40, 0), planted(15, 1)
    task, model, _ = solved(x @ turn, boxes, val_x @ turn, val_boxes)
    x, boxes = planted(15, 2)
    assert task.whole_metric([(boxes, model.predict(x @ turn, verbose=0))]) > 0.85


def test_images_without_objects_and_a_class_without_images_do_not_crash():
    x, boxes = planted(12, 0)
    boxes[boxes[..., 0] == 1] = 0  # of the second class there is nothing
    empty = np.zeros_like(boxes[:4])
    _task, model, how = solved(x, boxes, x[:4], empty)
    outputs = model.predict(x, verbose=0)
    assert np.isfinite(outputs).all()
    assert (outputs[..., 5] < 0.5).all()
    assert np.isfinite([step.val_loss for step in how.path]).all()


def test_a_saved_model_loads_with_plain_keras(found, tmp_path):
    _, model, _ = found
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x, _ = planted(3, 3)
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_task_is_made_again_from_json(found):
    task, _, _ = found
    again = task_from_json(task.to_json())
    assert again == task
    assert isinstance(again, RegionDetection)


# The whole way


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_objects(tmp_path_factory.mktemp("objects") / "set", 30, empty=5)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a network with a map at each stride from 2 to 32."""
    return write_net(tmp_path_factory.mktemp("net") / "small.keras")


OPTIONS = {
    "task": "detection",
    "detector": {"kind": "rcnn"},
    "image_size": SIZE,
    "augmented_copies": 2,
    "engine": "keras",
    "progress": False,
}


@pytest.fixture(scope="module")
def said_and_run(table, small, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("runs") / "run")
    given = ["detector.kind=rcnn", f"image_size={SIZE}", "augmented_copies=1", "engine=keras"]
    options = [x for one in given for x in ("--set", one)]
    done = CliRunner().invoke(main, ["train", str(table), "--backbone", small, "-o", out, *options])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split()), tlkit.open_run(out)


def test_a_run_solves_regions_and_delivers_them(said_and_run, table):
    said, run = said_and_run
    assert "of the training objects have one that overlaps by half (recall at IoU 0.5)" in said
    assert "by validation loss; stage 2: " in said
    (phase,) = run.plan["phases"]
    assert (phase["name"], phase["method"], phase["views"]) == ("head", "solve", 2)
    assert run.metrics["test"]["ap50"] > 0.3
    assert run.metrics["val"]["ap50"] > 0.3
    plain = keras.models.load_model(run.folder / "model.keras")
    assert plain.output.shape[2:] == (6,)


@pytest.mark.full
def test_an_export_finds_what_the_run_finds(said_and_run, table, tmp_path):
    _, run = said_and_run
    files = sorted(table.parent.rglob("*.png"))[:6]
    found = zip(files, run.predict(files, progress=False), strict=True)
    file, row = max(found, key=lambda pair: len(pair[1]["detections"]))
    assert row["detections"]
    path = run.export(tmp_path / "served", progress=False)
    served = tf.saved_model.load(str(path)).signatures["serving_default"](
        image_bytes=tf.constant([file.read_bytes()])
    )
    assert int(served["count"][0]) == len(row["detections"])
    for i, one in enumerate(row["detections"]):
        np.testing.assert_allclose(served["boxes"][0, i], one["box"], atol=0.5)
        assert float(served["scores"][0, i]) == pytest.approx(one["score"], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"regime": "large"}, "regime: windows are solved on a frozen backbone. Allowed"),
        ({"freeze": "none"}, "freeze: windows are solved on a frozen backbone. Allowed"),
        ({"head": {"solver": "fit"}}, "head.solver: windows are solved, never fitted. Allowed"),
        ({"head": {"strength": "folds"}}, "head.strength: windows are many more than images"),
        ({"head": {"refit": True}}, "head.refit: the validation part chooses the strengths"),
        ({"head": {"hidden": [8]}}, "head.hidden: windows are solved by linear layers"),
        ({"budget": "5m"}, "budget: windows are solved once, and nothing follows. Allowed"),
        ({"epochs": 3}, "epochs: has no effect: the head is all that is trained, and it is solved"),
        ({"optimizer": {"name": "sgd"}}, "Allowed: another detector.kind. Received: sgd"),
        ({"detector": {"kind": "rcnn", "channels": 8}}, "detector.channels: windows are read off"),
    ],
)
def test_what_has_no_use_where_all_is_solved_is_refused(table, small, options, said):
    with pytest.raises(SpecError) as error:
        tlkit.plan(table, backbone=small, **OPTIONS | options)
    assert said in str(error.value)


def test_callbacks_would_never_be_called(table, small, tmp_path):
    given = {"out": tmp_path / "run", "callbacks": [keras.callbacks.Callback()]}
    with pytest.raises(SpecError, match="callbacks: would never be called, detector.kind=rcnn"):
        tlkit.train(table, backbone=small, **OPTIONS, **given)
