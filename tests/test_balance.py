"""Imbalance: what weights and draws are, and that they help rare classes and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY, draw_image, write_images
from sklearn.utils.class_weight import compute_sample_weight

import tlkit
from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.example import Example
from tlkit.data.feed.pipeline import Draws, batches
from tlkit.errors import SpecError
from tlkit.features.batches import FeatureBatches
from tlkit.features.rows import Rows
from tlkit.solver.solve import solve
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.regression import Regression

TASK = Classification(("common", "rare"))
LABELS = Multilabel(("common", "rare"))
KINDS = ("weights", "sampling")


def overlapping(count, seed=0):
    """Features (20 a rare one) of two classes, 95 to 5, that no line tells apart entirely."""
    random = np.random.default_rng(seed)
    y = np.array([i % 20 == 0 for i in range(count)], np.int32)
    x = random.normal(size=(count, 5)).astype(np.float32)
    x[:, 0] += 1.5 * y
    return x, y


def recalls(answers, y):
    return [float((answers[y == c] == c).mean()) for c in (0, 1)]


# Weights and draws


def test_weights_are_scikit_learn_s_balanced_ones():
    y = np.random.default_rng(0).choice(3, 200, p=[0.8, 0.15, 0.05]).astype(np.int32)
    weights = Classification(("a", "b", "c")).balance(y, "weights").weights
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", y), rtol=1e-6)
    assert weights.mean() == pytest.approx(1)


def test_labels_are_weighed_there_against_not_there():
    y = np.zeros((100, 3), np.float32)
    y[:10, 0], y[:50, 1] = 1, 1  # the third label never occurs
    weights = Multilabel(("a", "b", "c")).balance(y, "weights").weights
    assert weights.shape == y.shape
    assert weights[0, 0] / weights[99, 0] == pytest.approx(90 / 10, rel=1e-5)
    np.testing.assert_allclose(weights.mean(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(weights[:, 1:], 1)


@pytest.mark.parametrize("kind", [*KINDS, "none"])
@pytest.mark.parametrize(
    ("task", "targets"),
    [
        (TASK, np.array([0, 1] * 8, np.int32)),
        (LABELS, np.array([[0, 1], [1, 0]] * 8, np.float32)),
        (Regression(("x",)), np.arange(16, dtype=np.float32)[:, None]),
    ],
)
def test_where_nothing_is_rare_nothing_is_done(task, targets, kind):
    assert task.balance(targets, kind) is UNBALANCED


def test_an_epoch_draws_each_class_as_often():
    _, y = overlapping(400)
    balance = TASK.balance(y, "sampling")
    random = np.random.default_rng(1)
    for _ in range(5):
        order = balance.order(len(y), random)
        assert len(order) == 400
        assert abs(int((y[order] == 1).sum()) - 200) <= 2
        counts = np.bincount(order[y[order] == 1], minlength=400)[y == 1]
        assert set(counts) <= {9, 10, 11}, "a rare image was forgotten"


def test_all_images_have_their_turn():
    _, y = overlapping(400)
    balance, random = TASK.balance(y, "sampling"), np.random.default_rng(1)
    drawn = np.concatenate([balance.order(400, random) for _ in range(20)])
    assert len(np.unique(drawn)) == 400


def test_the_order_hangs_on_the_random_state_alone():
    _, y = overlapping(100)
    for balance in (TASK.balance(y, "sampling"), UNBALANCED):
        one, again, other = (balance.order(100, np.random.default_rng(s)) for s in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
    assert sorted(UNBALANCED.order(100, np.random.default_rng(3))) == list(range(100))


def test_images_are_drawn_by_their_rarest_label():
    y = np.array([[1, 0]] * 60 + [[1, 1]] * 10 + [[0, 0]] * 30, np.float32)
    draws = LABELS.balance(y, "sampling").draws
    assert draws[60] / draws[0] == pytest.approx((1 / 10) / (1 / 70), rel=1e-5)
    assert draws[70] / draws[0] == pytest.approx((1 / 30) / (1 / 70), rel=1e-5)
    assert draws.mean() == pytest.approx(1)


# The solved head


@pytest.mark.parametrize("kind", KINDS)
def test_a_solved_head_finds_more_of_a_rare_class(kind):
    x, y = overlapping(1000)
    val_x, val_y = overlapping(1000, seed=1)
    plain = solve(x, y, val_x, val_y, TASK)
    weighted = solve(x, y, val_x, val_y, TASK, TASK.balance(y, kind).whole)
    before, after = (
        recalls((val_x @ s.kernel + s.bias).argmax(axis=1), val_y) for s in (plain, weighted)
    )
    assert before[1] < 0.3
    assert after[1] > 0.6
    assert after[0] > 0.6


def test_a_weight_of_two_is_as_good_as_the_example_twice():
    x, y = overlapping(300)
    weights = np.where(y == 1, 2.0, 1.0)
    twice = np.concatenate([np.arange(300), np.flatnonzero(y)])
    # The same standardisation: what is compared is the weighting alone.
    x = np.concatenate([x, -x])
    y = np.concatenate([y, y])
    weights, twice = np.concatenate([weights] * 2), np.concatenate([twice, twice + 300])
    given = solve(x, y, x, y, TASK, (weights / weights.mean()).astype(np.float32))
    doubled = solve(x[twice], y[twice], x, y, TASK)
    p, q = (x @ s.kernel + s.bias for s in (given, doubled))
    np.testing.assert_allclose(p[:, 1] - p[:, 0], q[:, 1] - q[:, 0], atol=0.05)


def test_labels_are_solved_with_weights_of_their_own():
    x, y = overlapping(1000)
    targets = np.stack([1 - y, y], axis=1).astype(np.float32)
    weights = LABELS.balance(targets, "weights").weights
    found = solve(x, targets, x, targets, LABELS, weights)
    plain = solve(x, targets, x, targets, LABELS)
    rare = [(x @ s.kernel + s.bias)[:, 1] > 0 for s in (plain, found)]
    assert rare[0][y == 1].mean() < 0.3
    assert rare[1][y == 1].mean() > 0.6


def test_weights_of_one_change_no_bit():
    x, y = overlapping(200)
    plain = solve(x, y, x, y, TASK)
    ones = solve(x, y, x, y, TASK, np.ones(200, np.float32))
    assert np.array_equal(plain.kernel, ones.kernel)


# Fitted phases


def test_the_loss_of_labels_takes_a_weight_for_each():
    random = np.random.default_rng(0)
    y = (random.random((6, 2)) < 0.5).astype(np.float32)
    p = random.uniform(0.1, 0.9, (6, 2)).astype(np.float32)
    weights = random.uniform(0.5, 2, (6, 2)).astype(np.float32)
    each = -np.where(y == 1, np.log(p), np.log(1 - p))
    loss = LABELS.loss()
    assert float(loss(y, p)) == pytest.approx(each.mean(), rel=1e-5)
    assert float(loss(y, p, weights)) == pytest.approx((weights * each).mean(), rel=1e-5)


def test_kept_features_come_with_weights_or_in_balanced_order():
    x, y = overlapping(40)
    rows = Rows([x], np.zeros(40, int), np.arange(40))
    balance = TASK.balance(y, "weights")
    features, targets, weights = FeatureBatches(rows, y, 40, 0, balance)[0]
    np.testing.assert_array_equal(weights, np.where(targets == 1, 10, np.float32(40 / 76)))
    assert features.shape == x.shape
    drawn = FeatureBatches(rows, y, 40, 0, TASK.balance(y, "sampling"))[0]
    assert len(drawn) == 2
    assert drawn[1].sum() == 20
    plain = FeatureBatches(rows, y, 40, 0)
    same = FeatureBatches(rows, y, 40, 0, Balance())
    assert all(np.array_equal(*pair) for pair in zip(plain[0], same[0], strict=True))


def test_streams_come_with_weights_or_in_balanced_order():
    random = np.random.default_rng(0)
    labels = ["rare" if i % 10 == 0 else "common" for i in range(40)]
    examples = [
        Example(f"array/{i}", label, pixels=np.asarray(draw_image("disc", random)))
        for i, label in enumerate(labels)
    ]
    y = TASK.encode(labels)

    def stream(kind):
        balance = TASK.balance(y, kind)
        return batches(examples, y, 32, 40, Draws(1, range(2), balance=balance))

    (_, targets, weights), _ = stream("weights")
    np.testing.assert_allclose(weights, np.where(targets.numpy() == 1, 5, 20 / 36), rtol=1e-6)
    first, second = stream("sampling")
    assert abs(int(first[1].numpy().sum()) - 20) <= 1
    assert not np.array_equal(first[0], second[0])
    again = next(iter(stream("sampling")))
    assert np.array_equal(first[0], again[0])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """60 squares and 8 discs, in colours that overlap."""
    folder = write_images(tmp_path_factory.mktemp("uneven") / "shapes", ["square"], 60)
    random = np.random.default_rng(1)
    (folder / "disc").mkdir()
    for i in range(8):
        draw_image("disc", random).save(folder / "disc" / f"{i}.png")
    return folder


def run_of(data, tiny_weights, out, **more):
    backbone = {**TINY["backbone"], "weights": tiny_weights}
    fields = {**TINY, "backbone": backbone, "regime": "small", "head": {"solver": "fit"}, **more}
    return tlkit.train(data, out=out, progress=False, **fields)


@pytest.mark.parametrize(
    ("kind", "cache"),
    [
        pytest.param("none", 1.0, marks=pytest.mark.full),
        ("sampling", 1.0),
        ("weights", 0.0),
    ],
)
def test_fitted_phases_are_balanced_on_kept_and_streamed_features(uneven, tmp_path, kind, cache):
    """Features that say nothing: what is learnt is how frequent the classes are in training."""
    run = tlkit.train(
        uneven, out=tmp_path / "run", progress=False, regime="small", balance=kind,
        cache_size=cache, head={"solver": "fit", "bias": "zeros", "dropout": 0}, epochs=8,
        optimizer={"learning_rate": 0.15, "schedule": "constant"}, **TINY,
    )  # fmt: skip
    (phase,) = run.plan["phases"]
    assert run.metrics["phases"][0]["features_kept"] is (cache > 0)
    rare = run.model.predict(np.zeros((1, 32, 32, 3)), verbose=0)[0][run.labels.index("disc")]
    told = any(reason.startswith(f"balance: {kind}") for reason in phase["reasons"])
    if kind == "none":
        assert rare < 0.25
        assert not told
    else:
        assert 0.33 < rare < 0.67
        assert told


@pytest.mark.full
def test_a_run_on_balanced_classes_is_the_same_to_the_bit(image_folder, tiny_weights, tmp_path):
    fields = {"epochs": 1, "head": {"solver": "fit", "bias": "zeros"}}
    weights = [
        run_of(image_folder, tiny_weights, tmp_path / kind, balance=kind, **fields)
        .model.get_layer("predictions")
        .get_weights()[0]
        for kind in ("none", "weights")
    ]
    assert np.array_equal(*weights)


def test_labels_train_with_weights_of_their_own(uneven, tiny_weights, tmp_path):
    files = sorted(uneven.rglob("*.png"))
    rows = [f"shapes/{p.relative_to(uneven)},{p.parent.name}|image" for p in files]
    table = uneven.parent / "labels.csv"
    table.write_text("image,label\n" + "\n".join(rows))
    fields = {"task": "multilabel", "balance": "weights", "epochs": 1}
    run = run_of(table, tiny_weights, tmp_path / "run", **fields)
    assert run.metrics["phases"][0]["best_val"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_cannot_be_balanced(kind):
    with pytest.raises(SpecError, match=f"Allowed for regression: none. Received: {kind}"):
        make_spec({"task": "regression", "balance": kind})
