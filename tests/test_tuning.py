"""Options of fitted phases: block rates, smoothing, averages; budgets; devices."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL
from hypothesis import given
from hypothesis import strategies as st

import tlkit
from tlkit.backbones.catalog import LayerInfo
from tlkit.data.example import Example
from tlkit.data.feed.pipeline import Draws, batches, endless
from tlkit.errors import SpecError
from tlkit.features.batches import FeatureBatches
from tlkit.features.rows import Rows
from tlkit.planning.budget_rules import SHARE, Measured, fit_epochs, go_deeper
from tlkit.planning.freezing import plan_freeze
from tlkit.planning.make import make_plan
from tlkit.planning.phases import Phase
from tlkit.progress import Progress
from tlkit.spec.parts import OptimizerSpec
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.training.callbacks import WholeEpochs
from tlkit.training.schedule import Averages, make_optimizer, peak_rate, scaled
from tlkit.training.smoothing import smoothed
from tlkit.training.timing import Deadline, seconds_per_step

BLOCKS = ("one", "two", "three")
LAYERS = tuple(LayerInfo(name, name, 20, False) for name in BLOCKS)
TASK = Classification(("a", "b", "c"))


def network(activation: str = "softmax") -> keras.Model:
    """Three blocks of a Dense layer each, and a head."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    for name in BLOCKS:
        x = keras.layers.Dense(4, "tanh", name=name)(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation, name="predictions")(x))


def phase(**fields) -> Phase:
    values = {
        "name": "finetune",
        "method": "fit",
        "freeze": plan_freeze(LAYERS, "last=2"),
        "augment": False,
        "keeps_features": True,
        "epochs": 2,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "schedule": "constant",
        "reasons": (),
    }
    return Phase(**(values | fields))


def batch(n: int = 12):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("float32")
    return x, (np.arange(n) % 3).astype("int32")


def moves(model: keras.Model, options: OptimizerSpec, made: Phase) -> dict[str, np.ndarray]:
    """Return how far one step of plain descent moves each kernel."""
    model.get_layer("one").trainable = False
    before = {layer.name: layer.get_weights()[0] for layer in model.layers[1:]}
    model.compile(make_optimizer(made, options, model, 1), TASK.loss())
    model.train_on_batch(*batch())
    return {name: model.get_layer(name).get_weights()[0] - w for name, w in before.items()}


# Rates by block


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_block_further_down_moves_by_its_factor_less(optimizer):
    fields = {"momentum": 0, "weight_decay": 0}
    made = phase(optimizer=optimizer)
    plain = moves(network(), OptimizerSpec(**fields), made)
    slow = moves(network(), OptimizerSpec(block_decay=0.5, **fields), made)
    assert not slow["one"].any()
    for name, factor in (("predictions", 1), ("three", 0.5), ("two", 0.25)):
        np.testing.assert_allclose(slow[name], factor * plain[name], rtol=1e-3, atol=1e-6)


def test_weight_decay_spares_the_biases_of_every_block():
    model = network()
    optimizer = make_optimizer(phase(), OptimizerSpec(block_decay=0.5), model, 1)
    optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        owner = optimizer._optimizer_map(variable)
        assert owner._use_weight_decay(variable) == (variable.ndim > 1)


def test_the_rate_told_is_the_heads():
    model = network()
    optimizer = make_optimizer(phase(), OptimizerSpec(block_decay=0.5), model, 1)
    optimizer.build(model.trainable_variables)
    assert peak_rate(optimizer) == pytest.approx(0.1)
    assert peak_rate(scaled(optimizer)) == pytest.approx(0.1)


# Label smoothing


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("task", [TASK, Multilabel(("a", "b", "c"))], ids=lambda t: t.name)
def test_smoothing_is_in_the_training_loss_alone(task, share):
    model = network("sigmoid" if task.name == "multilabel" else "softmax")
    x, y = batch()
    soft = np.eye(3, dtype="float32")[y]
    multi = task.name == "multilabel"
    fitted = smoothed(model, task, share)
    fitted.compile(keras.optimizers.SGD(0.0), task.loss())
    p = np.asarray(model(x), "float64")
    target = (1 - share) * soft + share * (0.5 if multi else 1 / 3)
    if multi:
        expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    else:
        expected = -(target * np.log(p)).sum(axis=1).mean()
    y = soft if multi else y
    got = fitted.fit(x, y, batch_size=12, validation_data=(x, y), verbose=0).history
    assert got["loss"][0] == pytest.approx(expected, rel=1e-5)
    model.compile(loss=task.loss())
    assert got["val_loss"][0] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def test_without_smoothing_the_model_is_left_as_it_is():
    model = network()
    assert smoothed(model, TASK, 0.0) is model


# Averages


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_averages_are_measured_kept_and_taken_out_again(decay):
    model, seen, last = network(), [], []
    x, y = batch()

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            last.append(model.get_weights())

        def on_epoch_end(self, epoch, logs=None):
            seen.append((model.get_weights(), logs["val_loss"]))

        def on_epoch_begin(self, epoch, logs=None):
            if last:
                for now, then in zip(model.get_weights(), last[-1], strict=True):
                    np.testing.assert_allclose(now, then, atol=1e-6)

    options = OptimizerSpec(ema=0.5, block_decay=decay)
    model.compile(make_optimizer(phase(), options, model, 3), TASK.loss())
    model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        validation_data=(x, y),
        callbacks=[Look(), Averages()],
        verbose=0,
    )
    # Keras starts the average at the weights after the first step.
    average = last[0]
    for weights in last[1:3]:
        average = [0.5 * a + 0.5 * w for a, w in zip(average, weights, strict=True)]
    for got, expected in zip(seen[0][0], average, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    model.set_weights(seen[1][0])
    assert model.evaluate(x, y, verbose=0) == pytest.approx(seen[1][1], rel=1e-4)


# Decisions under a budget

head = Measured("head", 10, None)


def test_a_phase_that_gained_nothing_ends_the_deepening():
    assert go_deeper([head], 50, 10).epochs
    assert go_deeper([head, Measured("finetune", 10, 0.01)], 50, 10).epochs
    found = go_deeper([head, Measured("finetune", 10, 0.0)], 50, 10)
    assert (found.epochs, found.reason) == (0, "finetune gained nothing on validation")


def test_no_phase_is_begun_whose_features_take_the_time_left():
    found = go_deeper([head], 9, 10)
    assert not found.epochs
    assert "9 s left, its features alone may take 10" in found.reason


@given(
    st.integers(1, 50),
    st.floats(0.001, 1e4),
    st.floats(-1e3, 1e5),
    st.booleans(),
)
def test_epochs_fit_into_what_is_left(most, epoch, left, deepest):
    found = fit_epochs(most, epoch, left, deepest)
    assert 0 <= found.epochs <= most
    assert found.epochs * epoch <= max(left, 0) + 1e-6
    if left >= epoch:
        assert found.epochs >= 1
    if not deepest and found.epochs > 1:
        assert found.epochs * epoch <= SHARE * left + 1e-6


def test_a_phase_ends_after_the_step_in_which_the_time_is_up():
    model, seen = network(), []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(1))
    model.compile("sgd", TASK.loss())
    late = Deadline(time.monotonic() - 1)
    fitted = model.fit(
        *batch(),
        batch_size=2,
        epochs=3,
        validation_data=batch(),
        callbacks=[count, late],
        verbose=0,
    )
    assert len(seen) == 1
    assert len(fitted.history["val_loss"]) == 1


def test_a_trial_leaves_the_weights_as_they_were():
    model = network()
    model.compile("sgd", TASK.loss())
    before = model.get_weights()
    assert seconds_per_step(model, [batch()]) > 0
    for then, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(then, now)


def test_a_budgets_plan_goes_ever_deeper():
    layers = tuple(LayerInfo(f"block_{n}", f"block_{n}", 10, False) for n in range(16))
    plan = make_plan(make_spec({"budget": "2m"}), layers, 500, 4)
    assert [p.name for p in plan.phases] == [
        "head",
        *("finetune", "finetune-2", "finetune-3", "finetune-4"),
    ]
    assert [p.freeze.cut for p in plan.phases[1:]] == ["block_13", "block_11", "block_7", None]
    assert "if the phase before gained and time is left" in plan.phases[2].reasons[0]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2m", 120), ("1.5h", 5400), (7, 7)])
def test_times_are_read(text, seconds):
    assert make_spec({"budget": text}).budget == seconds


# What does not hold together


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": "soon"}, r"budget: is a time. Allowed: seconds, or .* Received: 'soon'"),
        ({"budget": "2m", "epochs": 3}, r"Allowed with it: epochs left out. Received: epochs 3"),
        ({"budget": 9, "freeze": "none"}, r"freeze left out. Received: freeze none"),
        ({"budget": 9, "regime": "small"}, r"regime left out. Received: regime small"),
        ({"budget": 9, "backbone": {"weights": "none"}}, r"budget: .*backbone.weights none"),
        ({"head": {"refit": True}, "regime": "large"}, r"refit with phases after the head"),
        ({"head": {"refit": True}, "budget": 9}, r"refit with phases after the head"),
        ({"head": {"refit": True, "hidden": [4]}}, r"refit with a head fitted by gradient steps"),
        (
            {"head": {"refit": True}, "task": "multilabel"},
            r"thresholds .*: false. Received: True",
        ),
        (
            {"task": "regression", "optimizer": {"label_smoothing": 0.1}},
            r"optimizer.label_smoothing: numbers are no labels.* Received: 0.1",
        ),
        ({"device": "gpu:0,"}, r"device: should match pattern"),
    ],
)
def test_what_does_not_hold_together_is_said(fields, message):
    with pytest.raises(SpecError, match=message):
        make_spec(fields)


def test_refit_is_refused_where_the_size_of_the_data_asks_for_more_phases():
    spec = make_spec({"head": {"refit": True}})
    assert len(make_plan(spec, LAYERS, 500, 3).phases) == 1
    with pytest.raises(SpecError, match=r"refit with the medium regime and head \(solve\) and fi"):
        make_plan(spec, LAYERS, 5_000, 3)


# Whole runs


@pytest.fixture
def tiny(image_folder, tmp_path):
    def run(**fields):
        fields = {"out": tmp_path / "run", "batch_size": 8, "progress": False, **fields}
        return tlkit.train(image_folder, **{**SMALL, **fields})

    return run


def test_all_of_it_at_once_in_half_precision(tiny):
    options = {"block_decay": 0.5, "label_smoothing": 0.1, "ema": 0.5, "schedule": "plateau"}
    run = tiny(freeze="last=2", epochs=2, precision="float16", optimizer=options)
    fitted = run.metrics["phases"][1]
    assert (fitted["device"], fitted["precision"]) == ("cpu", "float16")
    assert fitted["images_per_second"] > 0
    assert all(np.isfinite(float(row["val_loss"])) for row in run.files.read_log())


def test_a_refit_head_is_delivered_with_the_figures_from_before(tiny):
    run = tiny(regime="small", head={"refit": True})
    log = {row["l2"]: float(row["val_loss"]) for row in run.files.read_log()}
    assert min(abs(run.metrics["val"]["loss"] - loss) for loss in log.values()) < 1e-4
    again = keras.models.load_model(run.files.best).get_weights()[-2:]
    for own, kept in zip(run.model.get_weights()[-2:], again, strict=True):
        np.testing.assert_array_equal(own, kept)


def test_a_run_under_a_budget_says_what_it_decides_and_ends_in_time(tiny, capsys):
    run = tiny(budget="2m", progress=True)
    assert run.metrics["seconds"]["total"] < 120
    out = " ".join(capsys.readouterr().out.split())
    assert "budget finetune begun: " in out
    assert "budget finetune: an epoch takes about " in out
    assert run.metrics["phases"][0]["name"] == "head"
    names = [p["name"] for p in run.metrics["phases"]]
    last = run.metrics["phases"][-1]
    assert names[-1] == run.plan["phases"][-1]["name"] or last["gain"] <= 0
    assert (f"{last['name']} gained nothing" in out) == (names[-1] != "finetune-4")


def test_a_budget_without_time_leaves_the_solved_head(tiny):
    run = tiny(budget=0.01)
    assert [p["name"] for p in run.metrics["phases"]] == ["head"]
    assert run.metrics["val"]["accuracy"] > 0.4


class Counted(Progress):
    """Silent; holds how far each bar went, and how far it should."""

    def __init__(self):
        super().__init__(quiet=True)
        self.bars: dict[tuple[str, str], list[int]] = {}

    @contextlib.contextmanager
    def bar(self, label, what, total):
        counts = self.bars[label, what] = [0, total]

        def advance(steps=1, note=None):
            counts[0] += steps

        yield advance


def test_the_last_of_several_calls_ends_with_the_epoch():
    """Five steps in calls of four, from a data set that goes on with the next epoch's batches."""
    x, y = batch(20)
    epochs = tf.data.Dataset.range(3)
    stream = epochs.flat_map(
        lambda epoch: tf.data.Dataset.from_tensor_slices((x + tf.cast(epoch, x.dtype), y)).batch(4)
    )
    histories = []
    for steps in (1, 4):
        model = network()
        model.compile("sgd", TASK.loss(), steps_per_execution=steps)
        fitted = model.fit(
            stream,
            epochs=3,
            shuffle=False,
            steps_per_epoch=5,
            validation_data=stream.repeat(),
            validation_steps=3,
            callbacks=[WholeEpochs(5, 3)],
            verbose=0,
        )
        histories.append(fitted.history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("cache_size", [1, 0], ids=["kept", "streamed"])
def test_several_steps_in_a_call_train_as_single_ones_do(tiny, tmp_path, cache_size):
    """24 training images in batches of 5: five steps an epoch, the second call has one."""
    logs = []
    for steps in (1, 4):
        shown, options = Counted(), {"steps_per_execution": steps}
        run = tiny(
            out=tmp_path / str(steps),
            freeze="last=2",
            epochs=3,
            batch_size=5,
            engine="tensorflow",
            cache_size=cache_size,
            optimizer=options,
            progress=shown,
        )
        assert shown.bars["finetune", "fitting"] == [15, 15]
        rows = [row for row in run.files.read_log() if row["phase"] == "finetune"]
        logs.append([[float(row[name]) for name in ("loss", "val_loss")] for row in rows])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-5)
    assert len({loss for loss, _ in logs[0]}) == 3, "nothing was trained"


@pytest.mark.parametrize("freeze", ["last=2", pytest.param("none", marks=pytest.mark.full)])
def test_each_validation_sees_the_same_images(tiny, freeze):
    """Several batches, nothing kept, and a rate at which nothing changes."""
    run = tiny(
        freeze=freeze,
        epochs=3,
        batch_size=2,
        cache_size=0,
        augment="none",
        optimizer={"name": "sgd", "learning_rate": 1e-12, "schedule": "constant"},
    )
    assert run.metrics["examples"]["val"] > 4
    rows = [row for row in run.files.read_log() if row["phase"] == "finetune"]
    losses = [float(row["val_loss"]) for row in rows]
    assert losses == pytest.approx([run.metrics["val"]["loss"]] * 3, rel=1e-4)


TWO = """
import os, sys
import tlkit
data, backbone, out = sys.argv[1:]
os.environ["TLKIT_CACHE"] = f"{out}/cache"
tlkit.train(data, out=f"{out}/two", device="cpu:0,1", backbone=backbone,
    engine="keras", batch_size=8, freeze="last=2", epochs=2, head={"dropout": 0}, progress=False)
"""


def test_two_devices_train_as_one_does(tiny, image_folder, tmp_path):
    """24 training and 6 validation images in batches of 8 and 6: equal halves."""
    words = [sys.executable, "-X", "faulthandler", "-c", TWO]
    words += [str(image_folder), SMALL["backbone"]["name"], str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    one = tiny(freeze="last=2", epochs=2, head={"dropout": 0}, device="cpu")
    two = tlkit.open_run(tmp_path / "two")
    assert " + " in two.metrics["phases"][1]["device"]
    logs = [
        [[float(row[name]) for name in ("loss", "val_loss")] for row in run.files.read_log()]
        for run in (one, two)
    ]
    np.testing.assert_allclose(logs[1], logs[0], rtol=2e-3)
    assert two.metrics["test"]["loss"] == pytest.approx(one.metrics["test"]["loss"], rel=2e-3)
    assert len(logs[0]) > 2


def test_whoever_lets_go_of_a_pipeline_does_not_wait_for_its_tuning():
    """With tf.data's autotuning on, that can take seconds."""
    x, y = batch()
    files = [Example(f"array/{i}", "disc", pixels=np.zeros((8, 8, 3), np.uint8)) for i in range(40)]
    for data in (
        endless(FeatureBatches(Rows([x], np.zeros(12, int), np.arange(12)), y, 4).__iter__),
        batches(files, np.zeros(40), 8, 4),
        batches(files, np.zeros(40), 8, 4, Draws(0, range(2))),
    ):
        options = data.options()
        assert options.autotune.enabled is False
        assert len(next(iter(data))[1]) == 4


def test_kept_batches_go_on_pass_after_pass():
    x, y = batch()
    kept = FeatureBatches(
        Rows([x], np.zeros(12, int), np.arange(12)), y, 5, seed=3, epochs=range(4, 6)
    )
    assert len(kept) == 6
    seen = list(endless(kept.__iter__).take(13))
    for i, (features, targets) in enumerate(seen):
        expected = kept[i % 6]
        np.testing.assert_array_equal(features, expected[0])
        np.testing.assert_array_equal(targets, expected[1])
    assert [len(targets) for _, targets in seen[:3]] == [5, 5, 2]
    assert not np.array_equal(seen[0][1], seen[3][1]), "each epoch has an order of its own"
