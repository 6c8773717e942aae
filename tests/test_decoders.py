"""Decoders, their loss, and what is measured of maps of classes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.backbones.build import build_backbone
from tlkit.data.example import FileLabel
from tlkit.errors import BackboneError
from tlkit.planning.freezing import apply_plan, plan_freeze
from tlkit.spec.coding import VOID
from tlkit.spec.parts import HeadSpec
from tlkit.spec.read import make_spec
from tlkit.tasks.decoders import DECODERS, Decoder, unpooled
from tlkit.tasks.mask_evaluator import Overlaps
from tlkit.tasks.mask_metrics import boundary_f, confusion_of, interval
from tlkit.tasks.pooled import attach, read_by_head
from tlkit.tasks.registry import task_of
from tlkit.tasks.segmentation import CrossEntropyAndDice, Segmentation

SIDES = {32: {4: 8, 8: 4, 16: 2}, 45: {4: 12, 8: 6, 16: 3}, 50: {4: 13, 8: 7, 16: 4}}


def levels(size):
    image = keras.Input((size, size, 3))
    x, found = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(image), {}
    for stride in SIDES[size]:
        x = keras.layers.Conv2D(stride + 4, 3, strides=2, padding="same")(x)
        found[stride] = x
    return image, found


FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("unet", 50), pytest.param("deconv", 45, marks=FULL), pytest.param("unet", 32, marks=FULL),
        pytest.param("deconv", 50, marks=FULL), pytest.param("unet", 45, marks=FULL),
    ],
)  # fmt: skip
def test_pain_14_sizes_that_no_stride_divides_are_answered_in_full(kind, size, tmp_path):
    image, found = levels(size)
    assert {stride: level.shape[1] for stride, level in found.items()} == SIDES[size]
    model = keras.Model(image, DECODERS[kind](found, Decoder(3, size, 8, True, HeadSpec())))
    assert model.output_shape == (None, size, size, 3)
    pixels = np.random.default_rng(0).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    answers = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(answers.sum(axis=-1), 1, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), answers)


def network(batch):
    """Return a model with a decoder, and the layers of its backbone."""
    spec = make_spec(
        {"task": "segmentation", "image_size": 32, "batch_size": batch,
         "mask_values": ["0=a", "1=b"], "decoder": {"channels": 8}}
    )  # fmt: skip
    task = task_of(spec, ("a", "b"))
    built = build_backbone("MobileNet", 32, "none", 0.25)
    read = read_by_head(task, built.features, lambda: built.pyramid)
    assert list(read) == [4, 8, 16, 32]
    return attach(built.inputs, read, task, HeadSpec()), built.layers


def test_pain_9_small_batches_are_normalised_by_groups_and_the_backbone_s_statistics_held():
    large, _ = network(8)
    model, layers = network(4)
    kinds = [{type(x) for x in own.layers if x.name.startswith("head_")} for own in (large, model)]
    norms = keras.layers.BatchNormalization, keras.layers.GroupNormalization
    assert [[norm in own for norm in norms] for own in kinds] == [[True, False], [False, True]]
    apply_plan(model, plan_freeze(layers, "none"))
    statistics = model.get_layer("conv1_bn").moving_mean
    before = statistics.numpy()
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    model(images, training=True)  # as `fit` calls it
    np.testing.assert_array_equal(statistics.numpy(), before)


def test_a_backbone_without_maps_at_these_strides_is_refused():
    with pytest.raises(BackboneError, match="no feature map that the task segmentation can read"):
        read_by_head(Segmentation(("a", "b")), None, dict)


def scattered(x, where):
    """Unpool by loops: each value goes to the first maximum of its window."""
    out = np.zeros((*where.shape[:3], x.shape[-1]), x.dtype)
    for n, i, j, c in np.ndindex(x.shape):
        window = where[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        a, b = np.unravel_index(window.argmax(), window.shape)
        out[n, 2 * i + a, 2 * j + b, c] = x[n, i, j, c]
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**16))
def test_unpooling_puts_each_value_where_the_maximum_was_once(height, width, seed):
    random = np.random.default_rng(seed)
    where = random.integers(0, 3, (2, height, width, 3)).astype(np.float32)  # ties, as after ReLU
    x = random.uniform(1, 2, (2, -(-height // 2), -(-width // 2), 3)).astype(np.float32)
    found = keras.ops.convert_to_numpy(unpooled(keras.ops.array(x), keras.ops.array(where)))
    np.testing.assert_array_equal(found, scattered(x, where))
    assert (found > 0).sum() == x.size


def slow_loss(truth, answer):
    losses = []
    for own, given_ in zip(truth, answer, strict=True):
        known = own != VOID
        logs = [-np.log(given_[i, j, own[i, j]]) for i, j in np.argwhere(known)]
        dice = []
        for c in range(answer.shape[-1]):
            t, p = (own == c) & known, given_[..., c] * known
            if t.any():
                dice.append(2 * (p * t).sum() / (t.sum() + p.sum()))
        losses.append(np.mean(logs) + 1 - np.mean(dice) if logs else 0.0)
    return np.array(losses)


def test_the_loss_leaves_out_void_and_counts_only_classes_that_are_there():
    random = np.random.default_rng(0)
    truth = random.choice([0, 1, 2, VOID], (4, 5, 6)).astype(np.uint8)
    truth[1][truth[1] == 2] = 0
    truth[2] = VOID
    answer = random.dirichlet(np.ones(3), (4, 5, 6)).astype(np.float32)
    found = np.asarray(CrossEntropyAndDice(reduction=None)(truth, answer))
    np.testing.assert_allclose(found, slow_loss(truth, answer), rtol=1e-4)
    assert found[2] == 0
    other = np.where(truth[..., None] == VOID, 1 - answer, answer)  # whatever void is answered
    np.testing.assert_allclose(CrossEntropyAndDice(reduction=None)(truth, other), found, rtol=1e-5)


def test_a_perfect_answer_has_no_loss_and_a_missed_small_class_has_much():
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, :2, :2] = 1
    right = np.eye(2, dtype=np.float32)[truth]
    loss = CrossEntropyAndDice()
    assert float(loss(truth, right)) == pytest.approx(0, abs=1e-5)
    blind = np.full((1, 20, 20, 2), (0.99, 0.01), np.float32)
    assert float(loss(truth, blind)) > 0.5


# What is measured


def test_figures_are_those_of_slow_loops_whatever_the_batches():
    random, names = np.random.default_rng(1), ("a", "b", "c", "never")
    truth = random.choice([0, 1, 2, VOID], (6, 9, 8), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
    outputs = random.dirichlet(np.ones(4), (6, 9, 8)).astype(np.float32)
    outputs[..., 3] = 0
    given_ = outputs.argmax(axis=-1)
    evaluator = Overlaps(names)
    for i in range(6):
        evaluator.update([f"{i}"], [None], truth[i : i + 1], outputs[i : i + 1])
    found = evaluator.result()
    known = truth != VOID
    for c, name in enumerate(names[:3]):
        t, p = (truth == c) & known, (given_ == c) & known
        iou = (t & p).sum() / (t | p).sum()
        assert found["per_class"][name]["iou"] == pytest.approx(iou)
        assert found["per_class"][name]["dice"] == pytest.approx(2 * iou / (1 + iou))
    assert found["per_class"]["never"] == {"iou": None, "dice": None, "pixels": 0}
    mean = np.mean([found["per_class"][n]["iou"] for n in names[:3]])
    assert found["mean_iou"] == pytest.approx(mean)
    assert found["pixel_accuracy"] == pytest.approx((truth == given_)[known].mean())
    json.dumps(found)
    metric = Segmentation(names).keras_metric()
    for i in range(6):
        metric.update_state(truth[i : i + 1], outputs[i : i + 1])
    assert float(metric.result()) == pytest.approx(mean, abs=1e-5)


def test_permuting_classes_permutes_their_names_alone():
    random = np.random.default_rng(2)
    truth = random.choice([0, 1, 2, VOID], (3, 7, 7)).astype(np.uint8)
    outputs = random.dirichlet(np.ones(3), (3, 7, 7)).astype(np.float32)
    order = np.array([2, 0, 1])  # new number of each class
    table = np.append(order, np.full(253, VOID)).astype(np.uint8)
    one, other = Overlaps(("a", "b", "c")), Overlaps(("b", "c", "a"))
    one.update("xyz", [None] * 3, truth, outputs)
    other.update("xyz", [None] * 3, table[truth], outputs[..., np.argsort(order)])
    mine, theirs = one.result(), other.result()
    assert mine["per_class"] == {n: theirs["per_class"][n] for n in "abc"}
    for key in ("mean_iou", "pixel_accuracy", "boundary_f", "mean_iou_interval"):
        assert mine[key] == pytest.approx(theirs[key])


def test_all_void_and_a_single_image_have_figures_too(tmp_path):
    evaluator = Overlaps(("a", "b"))
    outputs = np.full((1, 4, 4, 2), 0.5, np.float32)
    evaluator.update(
        ["x"], [FileLabel(tmp_path / "x.png")], np.full((1, 4, 4), VOID, np.uint8), outputs
    )
    found = evaluator.result()
    assert (found["mean_iou"], found["mean_iou_interval"], found["boundary_f"]) == (None,) * 3
    assert evaluator.rows()[1] == ["x", "", "", ""]
    assert "no mean IoU" in Segmentation(("a", "b")).headline(found)
    assert evaluator.draw(tmp_path) == ""
    assert (tmp_path / "worst.png").stat().st_size > 1000


def square(at, side=30, size=100):
    mask = np.zeros((size, size), np.uint8)
    mask[at : at + side, at : at + side] = 1
    return mask


def test_boundaries_meet_within_a_share_of_the_diagonal():
    truth = square(30)
    assert boundary_f(truth, truth) == 1
    assert boundary_f(truth, square(31)) == 1  # 0.75% of 141 pixels are 2
    assert boundary_f(truth, square(38)) < 0.3
    assert boundary_f(truth, np.zeros_like(truth)) == 0
    assert boundary_f(np.zeros_like(truth), np.zeros_like(truth)) is None
    void = truth.copy()
    void[truth == 1] = VOID  # a border with void is none
    assert boundary_f(void, np.zeros_like(truth)) is None


def test_an_interval_is_narrower_with_more_images_and_holds_the_mean():
    random = np.random.default_rng(3)
    both = random.integers(60, 100, (200, 2))
    either = np.full((200, 2), 100)
    few, many = interval(both[:10], either[:10]), interval(both, either)
    assert many[1] - many[0] < few[1] - few[0]
    assert many[0] < (both.sum(axis=0) / either.sum(axis=0)).mean() < many[1]
    assert interval(both[:1], either[:1]) is None


def test_confusion_counts_each_pixel_once():
    truth = np.array([[0, 1, VOID], [1, 1, 0]], np.uint8)
    given_ = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)
    assert confusion_of(truth, given_, 2).tolist() == [[1, 1], [1, 2]]


@FULL
@pytest.mark.parametrize("kind", DECODERS)
def test_one_image_can_be_learnt_by_heart(kind):
    keras.utils.set_random_seed(0)
    image, found = levels(32)
    head = HeadSpec(dropout=0.0)
    model = keras.Model(image, DECODERS[kind](found, Decoder(2, 32, 16, False, head)))
    truth = square(8, 16, 32)[None]
    pixels = np.where(truth[..., None] == 1, 1.0, -1.0).repeat(3, axis=-1).astype(np.float32)
    model.compile(keras.optimizers.Adam(0.02), CrossEntropyAndDice())
    model.fit(pixels, truth, epochs=40, verbose=0)
    assert (model.predict(pixels, verbose=0).argmax(axis=-1) == truth).mean() > 0.97
