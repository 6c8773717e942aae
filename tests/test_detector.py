"""What the one-stage detector is made of: cells, assignment, loss, suppression, moved boxes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tlkit.data.annotations import Annotations, Box
from tlkit.data.box_sets import BoxSets
from tlkit.data.feed.augment import augmenter
from tlkit.export.objects import found_objects
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.assignment import (
    CLASS_POWER,
    MOST_CELLS,
    OVERLAP_POWER,
    Detected,
    assign,
)
from tlkit.tasks.box_metrics import overlap
from tlkit.tasks.detection import Detection
from tlkit.tasks.detection_metrics import assess
from tlkit.tasks.detections import true_objects
from tlkit.tasks.detector import FIRST_REACH, STRIDES, Detector, cells, one_stage, shape_at
from tlkit.tasks.suppression import LEAST_SCORE, MOST_FOUND, VOTING, suppressed

OBLONG = (72, 104)
"""Height and width that neither 16 nor 32 divides."""


def slow_overlap(a, b):
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(0.0, wide) * max(0.0, high)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return both / (sum(areas) - both) if both else 0.0


def random_boxes(random, count, height, width, low=6.0, high=40.0):
    sides = random.uniform(low, high, (count, 2))
    first = random.uniform(0, 1, (count, 2)) * np.maximum((width, height) - sides, 0)
    return np.concatenate([first, first + sides], axis=1)


# Cells


def levels_of(size, strides=STRIDES, channels=3):
    """Return input tensors as the maps of a backbone at these strides."""
    return {s: keras.Input((*shape_at(size, s), channels), name=f"tap_{s}") for s in strides}


def built(size, levels, classes=2, channels=8):
    keras.utils.set_random_seed(0)
    made = one_stage(levels, Detector(classes, size, channels, True, HeadSpec()))
    return keras.Model(list(levels.values()), made)


def maps(model, batch=1, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(batch, *x.shape[1:])).astype(np.float32) for x in model.inputs]


@pytest.mark.parametrize("size", [pytest.param(64, marks=pytest.mark.full), OBLONG], ids=str)
def test_cells_answer_from_their_centres_by_distances_in_strides(size):
    model = built(size, levels_of(size))
    reach = np.array([0.5, 1.0, 2.0, 4.0])  # left, top, right, bottom
    kernel, bias = model.get_layer("head_box").get_weights()
    np.testing.assert_allclose(bias, np.log(FIRST_REACH), rtol=1e-6)
    model.get_layer("head_box").set_weights([0 * kernel, np.log(reach)])
    boxes = model.predict_on_batch(maps(model))[0, :, :4]
    height, width = (size, size) if isinstance(size, int) else size
    expected = []
    for stride in (8, 16, 32):
        for row in range(-(-height // stride)):
            for column in range(-(-width // stride)):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                left, top, right, bottom = reach * stride
                box = np.array([x - left, y - top, x + right, y + bottom])
                expected.append(box / [width, height, width, height])
    np.testing.assert_allclose(boxes, expected, atol=1e-5)
    centres, strides = cells(size)
    middle = (boxes[:, :2] * (width, height)) + strides[:, None] * reach[:2]
    np.testing.assert_allclose(centres, middle, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "strides"),
    [
        (OBLONG, STRIDES),
        (160, (16,)),
        *(
            pytest.param(size, strides, marks=pytest.mark.full)
            for size, strides in [(OBLONG, (16,)), (160, (4, 8, 16)), (OBLONG, (8, 32))]
        ),
    ],
    ids=str,
)
def test_a_cell_answers_for_its_place_whatever_levels_the_backbone_has(size, strides):
    model = built(size, levels_of(size, strides))
    for layer in model.layers:  # each takes the mean of what it sees: a change is largest in place
        if "Conv" in type(layer).__name__ and layer.name != "head_box":
            kernels = [x for x in layer.get_weights() if x.ndim == 4]
            seen = [np.prod(x.shape[: 2 if x.shape[-1] == 1 else 3]) for x in kernels]
            means = [np.full_like(x, 1 / n) for x, n in zip(kernels, seen, strict=True)]
            layer.set_weights([*means, *(x for x in layer.get_weights() if x.ndim != 4)])
    plain = [np.zeros_like(x) for x in maps(model)]
    before = model.predict_on_batch(plain)
    centres, own = cells(size)
    height, width = (size, size) if isinstance(size, int) else size
    assert before.shape == (1, len(centres), 6)
    for across, down in ((0.2, 0.25), (0.8, 0.7)):
        changed, touched = [x.copy() for x in plain], []
        for x in changed:
            rows, columns = x.shape[1:3]
            row, column = int(down * rows), int(across * columns)
            x[0, row, column] = 100
            touched.append(((column + 0.5) / columns * width, (row + 0.5) / rows * height))
        moved = np.abs(model.predict_on_batch(changed) - before)[0, :, 4:].sum(axis=1)
        for stride in STRIDES:
            most = centres[own == stride][np.argmax(moved[own == stride])]
            near = max(stride, *strides) / 2 + stride / 2
            np.testing.assert_allclose(most, np.mean(touched, axis=0), atol=near)


def test_a_level_of_another_size_than_its_stride_says_is_brought_to_it():
    levels = levels_of(64, (8, 16))
    levels[32] = keras.Input((1, 1, 3), name="tap_32")  # a convolution without padding
    assert built(64, levels).output.shape == (None, 64 + 16 + 4, 6)


def test_the_detector_is_loaded_by_plain_keras_and_begins_with_nothing(tmp_path):
    task = Detection(("a", "b"), OBLONG, channels=8)
    keras.utils.set_random_seed(0)
    levels = levels_of(OBLONG)
    model = keras.Model(list(levels.values()), task.head(levels, HeadSpec()))
    layer = model.get_layer("predictions")
    layer.set_weights([layer.get_weights()[0], task.bias(None)])
    answers = model.predict_on_batch(maps(model))
    assert np.median(answers[..., 4:]) == pytest.approx(0.01, rel=0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict_on_batch(maps(model)), answers)


# Assignment and loss


def slow_assignment(truth, boxes, shares, centres):
    """One image, from Feng et al. 2021, section 3.2, with loops."""
    cells_, classes = shares.shape
    found = np.zeros((cells_, 4)), np.zeros((cells_, classes)), np.zeros(cells_)
    wanted = {}
    for number, row in enumerate(truth):
        if row[5] == 0:
            continue
        fits = []
        for cell in range(cells_):
            x, y = centres[cell]
            if row[1] < x < row[3] and row[2] < y < row[4]:
                own = shares[cell, int(row[0])] ** CLASS_POWER
                fits.append((own * slow_overlap(row[1:5], boxes[cell]) ** OVERLAP_POWER, cell))
        for fit, cell in sorted(fits, reverse=True)[:MOST_CELLS]:
            if fit > 0:
                wanted.setdefault(cell, []).append(
                    (slow_overlap(row[1:5], boxes[cell]), -number, fit)
                )
    given = {}
    for cell, all_ in wanted.items():
        overlap, number, fit = max(all_)
        given.setdefault(-number, []).append((cell, overlap, fit))
    for number, own in given.items():
        best, reached = max(fit for *_, fit in own), max(overlap for _, overlap, _ in own)
        for cell, _, fit in own:
            found[0][cell], found[2][cell] = truth[number, 1:5], 1
            found[1][cell, int(truth[number, 0])] = fit / best * reached
    return found


def problem(seed, size=64, images=2, objects=6, low=6.0):
    """Return truth in pixels, answered boxes and shares, and centres; the last object is none."""
    random = np.random.default_rng(seed)
    height, width = (size, size) if isinstance(size, int) else size
    centres, strides = cells(size)
    truth = np.zeros((images, objects, 7), np.float32)
    for own in truth:
        own[:, 0] = random.integers(0, 3, objects)
        own[:, 1:5] = random_boxes(random, objects, height, width, low)
        own[:, 5:] = 1
        own[-1, 1:] = 0
    reach = random.uniform(0.3, 3, (images, len(centres), 4)) * strides[:, None]
    boxes = np.concatenate([centres - reach[..., :2], centres + reach[..., 2:]], axis=2)
    shares = random.uniform(0.001, 0.9, (images, len(centres), 3))
    return truth, boxes.astype(np.float32), shares.astype(np.float32), centres


@pytest.mark.parametrize(("seed", "size", "low"), [(0, 64, 6), (1, OBLONG, 6), (2, 64, 1)])
def test_assignment_is_that_of_a_slow_loop_from_the_paper(seed, size, low):
    truth, boxes, shares, centres = problem(seed, size, low=low)
    found = [np.asarray(x) for x in assign(truth, boxes, shares, centres)]
    for i in range(len(truth)):
        expected = slow_assignment(truth[i], boxes[i], shares[i], centres)
        np.testing.assert_array_equal(found[2][i], expected[2])
        np.testing.assert_allclose(found[0][i], expected[0], atol=1e-4)
        np.testing.assert_allclose(found[1][i], expected[1], atol=1e-4)
    assert (found[2].sum(axis=1) > 5).all(), "too few cells have an object to tell anything"


def test_an_object_smaller_than_its_cells_answer_still_gets_the_overlap_of_its_best_cell():
    centres, strides = cells(64)
    reach = np.repeat(strides[:, None] * FIRST_REACH, 4, axis=1)
    boxes = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1)[None]
    truth = np.array([[[0, 10, 10, 14, 14, 1, 1]]], np.float32)  # 4 px in a box of 40
    shares = np.full((1, len(centres), 1), 0.01, np.float32)
    found = assign(truth, boxes.astype(np.float32), shares, centres)
    assert np.asarray(found.some).sum() == 1
    assert np.asarray(found.shares).max() == pytest.approx(16 / 1600, rel=1e-3)


def test_overlaps_agree_with_a_loop():
    random = np.random.default_rng(0)
    one, other = (random_boxes(random, n, 64, 64)[None] for n in (5, 7))
    expected = [[slow_overlap(a, b) for b in other[0]] for a in one[0]]
    found = overlap(one[:, :, None].astype(np.float32), other[:, None].astype(np.float32), np)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def loss_and_gradient(truth, answer, size):
    loss, answer = Detected(size), tf.Variable(answer)
    with tf.GradientTape() as tape:
        value = loss(truth, answer)
    return float(value), np.asarray(tape.gradient(value, answer))


def answers_of(boxes, shares, size):
    height, width = (size, size) if isinstance(size, int) else size
    whole = np.array([width, height, width, height], np.float32)
    return np.concatenate([boxes / whole, shares], axis=2).astype(np.float32)


@pytest.mark.parametrize("empty", ["all", "one", "degenerate", "saturated"])
def test_pain_1_images_without_objects_have_a_finite_loss_and_gradient(empty):
    truth, boxes, shares, _ = problem(0)
    truth[..., 1:5] /= 64
    if empty == "all":
        truth[:] = 0
    elif empty == "one":
        truth[0] = 0
    elif empty == "degenerate":
        truth[0, 0, 1:5] = (0.5, 0.5, 0.5, 0.5)
        boxes[0, :, 2:] = boxes[0, :, :2]  # answers without an area
    else:
        shares = (shares > 0.5).astype(np.float32)
    value, gradient = loss_and_gradient(truth, answers_of(boxes, shares, 64), 64)
    assert np.isfinite(value)
    assert value > 0
    assert np.isfinite(gradient).all()
    if empty == "all":
        assert (gradient[..., :4] == 0).all()
        assert (gradient[..., 4:] >= 0).all()  # nothing there: probabilities go down


def test_the_loss_is_over_the_sum_of_fits_in_the_batch_and_finds_right_answers_good():
    truth, boxes, shares, centres = problem(0)
    found = assign(truth, boxes, shares, centres)
    normalised = truth.copy()
    normalised[..., 1:5] /= 64
    bad, _ = loss_and_gradient(normalised, answers_of(boxes, shares, 64), 64)
    some = np.asarray(found.some)[..., None] > 0
    right = np.where(some, np.asarray(found.boxes), boxes)
    told = np.clip(np.asarray(found.shares), 0.001, 1)
    good, _ = loss_and_gradient(normalised, answers_of(right, told, 64), 64)
    assert good < 0.5 * bad
    # Twice the same images: the same loss.
    twice, _ = loss_and_gradient(
        np.tile(normalised, (2, 1, 1)), np.tile(answers_of(boxes, shares, 64), (2, 1, 1)), 64
    )
    assert twice == pytest.approx(bad, rel=1e-5)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no resource module")
def test_375_objects_in_an_image_take_bounded_memory():
    import resource

    truth, boxes, shares, _ = problem(3, 320, images=1, objects=375, low=8.0)
    truth[..., 1:5] /= 320
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    value, gradient = loss_and_gradient(truth, answers_of(boxes, shares, 320), 320)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert grown < 400, "MiB; one matrix of 375 objects by 2,100 cells takes 3"


# Boxes in and out


NAMES = ("a", "b")


def label_of(boxes, height, width, aside=""):
    own = [Box(NAMES[i % 2], tuple(map(float, box)), aside) for i, box in enumerate(boxes)]
    return Annotations(tuple(own), height, width)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [64, OBLONG], ids=str)
@pytest.mark.parametrize("sides", [(200, 50), (31, 77), (640, 480)], ids=str)
def test_boxes_are_encoded_and_decoded(resize, size, sides):
    random = np.random.default_rng(0)
    boxes = random_boxes(random, 5, *sides, 5.0, 0.9 * min(sides))
    task = Detection(NAMES, size, resize)
    column = task.encode([label_of(boxes, *sides), label_of((), *sides)])
    rows = column[:]
    assert rows.shape == (2, 5, 7)
    assert (rows[1] == 0).all()
    np.testing.assert_array_equal(rows[0, :, 0], [0, 1, 0, 1, 0])
    outputs = np.zeros((len(cells(size)[0]), 6), np.float32)
    for i, row in enumerate(rows[0]):
        outputs[7 * i, :4], outputs[7 * i, 4 + int(row[0])] = row[1:5], 0.9 - 0.1 * i
    found = Detection(NAMES, size, resize, thresholds=(0.1, 0.1)).accepted(outputs, *sides)
    scale = max(sides) / 32
    others = [max(slow_overlap(boxes[i], boxes[j]) for j in range(5) if j != i) for i in range(5)]
    single = [i for i, most in enumerate(others) if most < 0.5]
    assert single
    for i in single:
        at = int(np.argmin(np.abs(found.scores - (0.9 - 0.1 * i))))
        np.testing.assert_allclose(found.boxes[at], boxes[i], atol=1e-4 * scale)
        assert found.classes[at] == i % 2
    assert [len(x) for x in task.accepted(np.zeros_like(outputs), *sides)] == [0, 0, 0]


def test_difficult_objects_are_trained_on_and_do_not_count_where_a_model_is_measured():
    label = label_of([(2, 2, 20, 20)], 64, 64, "difficult")
    task = Detection(NAMES, 64)
    row = task.encode([label])[:][0, 0]
    assert tuple(row[5:]) == (1, 0)
    outputs = np.zeros((1, 84, 6), np.float32)
    other = label_of([(30, 30, 60, 60)], 64, 64)
    column = task.encode([label.joined(other)])
    own = task.evaluator()
    own.update(["a"], [label.joined(other)], column[:], outputs)
    assert own.result()["per_class"]["a"]["count"] == 1
    (truth,) = task._true(column[:])
    assert truth.aside.tolist() == [True, False]


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    "level", ["light", "medium", pytest.param("strong", marks=pytest.mark.full)]
)
def test_pain_8_painted_rectangles_move_with_their_image(level, fit):
    height, width, size = 120, 160, (64, 112)
    boxes = [(15, 20, 60, 60), (90, 50, 140, 100)]
    mask = np.zeros((height, width, 1), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        mask[y1:y2, x1:x2] = number
    change = augmenter(level, fit=fit)
    column = Detection(NAMES, size, fit).encode([label_of(boxes, height, width)])
    pair = tf.function(
        lambda seed: (column.target(0, change, size, seed), change.mask(mask, size, seed))
    )
    compared, mirrored = 0, 0
    for number in range(16):
        target, moved = (np.asarray(x) for x in pair(tf.constant([number, 7])))
        for at, row in enumerate(target):
            rows, columns = np.nonzero(moved[..., 0] == at + 1)
            if not len(rows):
                continue
            found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            if found.min() < 2 or (found > np.array([112, 64] * 2) - 2).any():
                continue
            # Around what is turned after it was cut the box may be larger than what is seen.
            wide = 1.6 if level == "light" else 4.5
            np.testing.assert_allclose(row[1:5] * ([112, 64] * 2), found, atol=wide)
            assert tuple(row[[0, 5, 6]]) == (at, 1, 1)
            compared += 1
        mirrored += target[0, 1] > target[1, 1]
    assert compared > 8
    assert 2 < mirrored < 14


def test_pain_8_kept_views_and_the_pipeline_move_boxes_alike():
    column = Detection(NAMES, 64).encode(
        [label_of([(5, 5, 40, 40), (50, 20, 90, 60)], 64, 100), label_of((), 50, 50)]
    )
    change, seeds = augmenter("medium"), np.array([[5, 6], [1, 2]], np.int32)
    kept = column.seen_by(change, seeds, 64)[:]
    for i in (0, 1):
        row = tf.function(lambda i=i: column.target(i, change, 64, tf.constant(seeds[i])))()
        np.testing.assert_allclose(kept[i], row, atol=1e-5)
    assert not np.allclose(kept[0], column[:][0])
    assert (kept[1] == 0).all()
    plain = column.seen_by(change, np.array([[-1, -1], [-1, -1]]), 64)[:]
    np.testing.assert_array_equal(plain, column[:])


def test_boxes_that_leave_an_image_lose_their_weight():
    class Shift:
        def matrices(self, height, width, size, seed):
            return tf.eye(3), tf.constant([[1.0, 0, 0.85], [0, 1, 0], [0, 0, 1]])

    rows = np.array(
        [[[1, 0.1, 0.1, 0.5, 0.5, 1, 1], [0, 0.0, 0.2, 0.2, 0.6, 1, 0], [0] * 7]], np.float32
    )
    column = BoxSets(rows, np.array([[10, 10]], np.int32))
    moved = column.seen_by(Shift(), np.array([[1, 1]], np.int32), 32)[:]
    assert (moved[0, 0, 1:] == 0).all()  # an eighth of it is left
    np.testing.assert_allclose(moved[0, 1], [0, 0.85, 0.2, 1.0, 0.6, 1, 0], atol=1e-6)
    assert (moved[0, 2] == 0).all()


# Suppression, mirroring


def slow_suppression(boxes, scores, most_overlap):
    """Return (class, score, index) of what is kept of the boxes of one image, best first."""
    kept = []
    for number in range(scores.shape[1]):
        order = sorted(range(len(boxes)), key=lambda i, n=number: -scores[i, n])
        own = []
        for i in order:
            if scores[i, number] > LEAST_SCORE and all(
                slow_overlap(boxes[i], boxes[j]) <= most_overlap for j in own
            ):
                own.append(i)
        kept += [(number, scores[i, number], i) for i in own[:MOST_FOUND]]
    return sorted(kept, key=lambda row: -row[1])[:MOST_FOUND]


@pytest.mark.parametrize("count", [1, 40, 200])
def test_suppression_is_that_of_a_slow_loop(count):
    random = np.random.default_rng(count)
    boxes = random_boxes(random, count, 64, 64)
    scores = random.uniform(0, 1, (count, 2)) ** 3
    found = suppressed(boxes, scores, 0.6)
    kept = slow_suppression(boxes, scores, 0.6)
    np.testing.assert_array_equal(found.classes, [number for number, *_ in kept])
    np.testing.assert_allclose(found.scores, [score for _, score, _ in kept], rtol=1e-6)
    for row, (number, _, i) in zip(found.boxes, kept, strict=True):
        near = [j for j in range(count) if slow_overlap(boxes[i], boxes[j]) >= VOTING]
        mean = np.average(boxes[near], axis=0, weights=scores[near, number])
        np.testing.assert_allclose(row, mean, rtol=1e-5)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_an_export_suppresses_as_python_does(resize):
    """`tf.image.combined_non_max_suppression`, on random answers; an image has none."""
    random = np.random.default_rng(0)
    task = Detection(("a", "b", "c"), OBLONG, resize, thresholds=(0.3, 0.5, 0.02))
    count = len(cells(OBLONG)[0])
    boxes = random_boxes(random, 3 * count, *OBLONG, 10, 40).reshape(3, count, 4)
    boxes /= (OBLONG[1], OBLONG[0]) * 2
    shares = random.uniform(0, 1, (3, count, 3)) ** 4
    shares[2] = 0
    outputs = np.concatenate([boxes, shares], axis=2).astype(np.float32)
    sizes = np.array([[90, 300], [200, 80], [64, 64]])
    listed = {k: v.numpy() for k, v in found_objects(task, tf.constant(outputs), sizes).items()}
    assert listed["count"].tolist()[2] == 0
    assert min(listed["count"][:2]) > 10
    own = task.listed(outputs, sizes)
    np.testing.assert_array_equal(listed["count"], own["count"])
    np.testing.assert_array_equal(listed["classes"], own["classes"])
    np.testing.assert_allclose(listed["scores"], own["scores"], atol=1e-6)
    np.testing.assert_allclose(listed["boxes"], own["boxes"], atol=0.01)
    names = np.array([b"a", b"b", b"c"])[own["classes"]]
    there = np.arange(MOST_FOUND) < own["count"][:, None]
    np.testing.assert_array_equal(listed["labels"], np.where(there, names, b""))


def outputs_of(boxes, classes, size):
    """Return outputs in which the cell nearest to the middle of an object, at each stride, answers
    for it, and the others with nothing."""
    centres, strides = cells(size)
    height, width = (size, size) if isinstance(size, int) else size
    outputs = np.zeros((len(centres), 6), np.float32)
    outputs[:, :4] = 0.5
    for box, number in zip(boxes, classes, strict=True):
        middle = np.add(box[:2], box[2:]) / 2
        for stride in STRIDES:
            away = np.abs(centres - middle).sum(axis=1) + 1e6 * (strides != stride)
            at = int(np.argmin(away))
            outputs[at, :4] = np.divide(box, (width, height) * 2)
            outputs[at, 4:] = np.eye(2)[number] * 0.8
    return outputs


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_boxes_beside_the_image_are_no_objects(resize):
    """Cells of a letterbox's bars may answer with such: cut to the image nothing is left."""
    task = Detection(NAMES, 64, resize, thresholds=(0.3, 0.3))
    outputs = np.zeros((1, 84, 6), np.float32)
    outputs[0, 0] = (0.1, 0.02, 0.4, 0.2, 0.9, 0.0)  # on the upper bar
    outputs[0, 1] = (-0.5, 0.4, -0.1, 0.6, 0.8, 0.0)
    outputs[0, 2] = (0.2, 0.4, 0.6, 0.6, 0.7, 0.0)
    sizes = np.array([[50, 200]])
    found = task.decode(outputs[0], 50, 200)["detections"]
    assert [one["score"] for one in found] == ([0.9, 0.7] if resize == "stretch" else [0.7])
    json.dumps(found, allow_nan=False)
    listed = found_objects(task, tf.constant(outputs), sizes)
    assert int(listed["count"][0]) == len(found)
    np.testing.assert_allclose(listed["boxes"][0][0], found[0]["box"], atol=0.01)


@pytest.mark.parametrize("size", [64, (96, 160)], ids=str)
def test_mirrored_outputs_are_those_of_the_mirrored_truth(size):
    height, width = (size, size) if isinstance(size, int) else size
    random = np.random.default_rng(1)
    boxes, classes = random_boxes(random, 3, height, width, 8.0, 30.0), (0, 1, 1)
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = width - boxes[:, [2, 0]]
    task = Detection(NAMES, size)
    found = np.asarray(
        task.flip(keras.ops.convert_to_tensor(outputs_of(boxes, classes, size)[None]))
    )
    np.testing.assert_allclose(found[0], outputs_of(mirrored, classes, size), atol=1e-6)


def test_permuting_class_names_permutes_nothing_but_names():
    random = np.random.default_rng(2)
    boxes = random_boxes(random, 4, 64, 64)
    label = label_of(boxes, 64, 64)
    outputs = random.uniform(0, 1, (1, 84, 6)).astype(np.float32)
    outputs[..., 2:4] += outputs[..., :2]
    results = []
    for names, own in ((NAMES, outputs), (NAMES[::-1], outputs[..., [0, 1, 2, 3, 5, 4]])):
        task = Detection(names, 64)
        column = task.encode([label])
        value, _ = loss_and_gradient(column[:], own, 64)
        truths = [true_objects(label, names)]
        metrics = assess(truths, [task.found(own[0], 64, 64)], names).metrics()
        found = sorted(map(str, task.decode(own[0], 64, 64)["detections"]))
        results.append((value, metrics["ap"], metrics["per_class"]["a"]["ap50"], found))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert results[0][1:] == results[1][1:]


# Learning


def test_one_image_is_fitted_to_an_average_precision_of_1():
    size, names = 64, ("blue", "red")
    boxes = [(4, 6, 26, 30), (34, 8, 60, 28), (10, 36, 34, 60), (40, 36, 60, 62)]
    label = Annotations(
        tuple(Box(names[i % 2], tuple(map(float, box))) for i, box in enumerate(boxes)), 64, 64
    )
    task = Detection(names, size, channels=24)
    column = task.encode([label])
    keras.utils.set_random_seed(0)
    levels = levels_of(size, channels=24)
    model = keras.Model(list(levels.values()), task.head(levels, HeadSpec()))
    model.get_layer("predictions").bias.assign(task.bias(column))
    inputs = maps(model, seed=1)
    model.compile(keras.optimizers.Adam(0.01), task.loss(), jit_compile=False)
    batch = tf.data.Dataset.from_tensors((tuple(inputs), column[:])).repeat()
    model.fit(batch, steps_per_epoch=200, verbose=0)
    for layer in model.layers:  # statistics of the one image
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(inputs, training=True)
    outputs = model.predict_on_batch(inputs)
    own = task.evaluator()
    own.update(["a"], [label], column[:], outputs)
    assert own.result()["ap50"] == pytest.approx(1.0)
    assert own.result()["ap"] > 0.95
