"""Phases on a tiny network: what is trained and what is not, what is kept, how a run goes on."""

import csv
import itertools
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import CLASSES, TINY, reseal
from PIL import Image

import tlkit
from tlkit.backbones.build import Built, build_backbone
from tlkit.backbones.catalog import LayerInfo
from tlkit.commands.train import resume
from tlkit.data.readers.open import image_files
from tlkit.errors import Interrupted, RunFolderError
from tlkit.features.batches import computed
from tlkit.features.cache import features_folder, list_entries
from tlkit.features.cut import cut_of, prefix_to, split_at
from tlkit.features.store import Examples
from tlkit.planning.freezing import apply_plan
from tlkit.planning.make import make_plan
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import counts_of, values_of
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification
from tlkit.tasks.pooled import PREDICTIONS, attach
from tlkit.training.session import Parts, Session
from tlkit.training.trainer import Trainer

CONV = ("kernel", "bias")
STATISTICS = ("moving_mean", "moving_variance")
TASK = Classification(tuple(CLASSES))
QUIET = Progress(quiet=True)

PLAIN_KERAS = """
import sys
sys.modules["tlkit"] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
print("compiled" if model.compiled else "free")
np.save(sys.argv[3], model(np.load(sys.argv[2]), training=False))
"""


class Watch(keras.callbacks.Callback):
    """Keeps the weights of `net` at the start and at the end of each fit."""

    def __init__(self):
        super().__init__()
        self.net, self.before, self.after, self.calls = None, [], [], []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")
        self.before.append(weights_of(self.net or self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append("epoch")

    def on_train_end(self, logs=None):
        self.calls.append("end")
        self.after.append(weights_of(self.net or self.model))


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C in the first batch of an epoch of the phase that trains the backbone."""

    def __init__(self, epoch):
        super().__init__()
        self.at, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and len(self.model.layers) > 10:
            raise KeyboardInterrupt


def weights_of(model):
    return {v.path: np.array(v) for v in model.weights}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


def relative_difference(got, expected):
    return np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def images(image_folder):
    """Pixels (36, 16, 16, 3) and classes (36,) of the generated images, classes in turn."""
    by_class = [image_files(image_folder / label) for label in CLASSES]
    files = [file for group in zip(*by_class, strict=True) for file in group]
    x = [np.asarray(Image.open(file).resize((16, 16)), "float32") for file in files]
    return np.stack(x), np.array([CLASSES.index(file.parent.name) for file in files], "int32")


def toy_backbone(x, skips=False):
    """Three blocks of convolution, BatchNorm and ReLU, the first with dropout.

    BatchNorm's statistics are those of `x`. With `skips` the last block reads the first one too,
    as in NASNet: two tensors cross behind the second.
    """
    inputs = keras.Input((16, 16, 3), name="image")
    features, layers = keras.layers.Rescaling(1 / 255, name="preprocess_scale")(inputs), []
    ends = []
    for block, filters in (("stem", 8), ("middle", 12), ("top", 16)):
        if skips and block == "top":
            pool = keras.layers.AveragePooling2D(2, name="top_pool")
            join = keras.layers.Concatenate(name="top_join")
            layers += [LayerInfo(layer.name, block, 0) for layer in (pool, join)]
            features = join([pool(ends[0]), features])
        for layer in (
            keras.layers.Conv2D(filters, 3, 2, "same", name=f"{block}_conv"),
            keras.layers.BatchNormalization(momentum=0.0, name=f"{block}_bn"),
            keras.layers.ReLU(name=f"{block}_relu"),
            keras.layers.Dropout(0.5 if block == "stem" else 0, name=f"{block}_dropout"),
        ):
            features = layer(features)
            norm = isinstance(layer, keras.layers.BatchNormalization)
            layers.append(LayerInfo(layer.name, block, layer.count_params(), norm))
        ends.append(features)
    keras.Model(inputs, features)(x, training=True)
    return Built(inputs, features, tuple(layers))


@pytest.fixture
def trainer(images, tmp_path, monkeypatch):
    """Make a trainer of a toy: 24 images to train on, 8 to validate with; and its plan."""

    def make(callbacks=(), network=toy_backbone, **fields):
        spec = make_spec({"batch_size": 8, **fields})
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        built = network(images[0])
        times, (x, y) = built.inputs.shape[1] // images[0].shape[1], images
        enlarged = x.repeat(times, axis=1).repeat(times, axis=2), y
        model = attach(built.inputs, built.features, TASK, spec.head)
        plan = make_plan(spec, built.layers, 24, len(CLASSES), bool(callbacks))
        folder = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        folder.create(spec)
        for callback in callbacks:
            callback.net = model
        chosen = range(24), range(24, 32), range(36)
        parts = Parts(*(part_of(enlarged, r, spec.batch_size) for r in chosen))
        monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
        return Trainer(Session(model, TASK, spec, parts, folder, QUIET, callbacks)), plan

    return make


def part_of(images, rows, size):
    """The images with these indices as training sees them, in batches of `size`."""
    x, y = (array[rows] for array in images)

    def batches(chosen):
        chosen = list(chosen)
        groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        return [(x[group], y[group]) for group in groups]

    def stream(augment, epochs=range(1)):
        return batches(range(len(y))) * len(epochs)

    return Examples([f"image{i}" for i in rows], y, batches, stream)


# What is trained


def test_a_fitted_head_leaves_the_backbone_bit_for_bit(trainer):
    watch = Watch()
    made, plan = trainer([watch], regime="small", head={"solver": "fit"}, epochs=2)
    assert [(p.name, p.method) for p in plan.phases] == [("head", "fit")]
    made.run(plan)
    head = {f"{PREDICTIONS}/kernel", f"{PREDICTIONS}/bias"}
    assert changed(watch.before[0], watch.after[0]) == head


def test_a_solved_head_leaves_the_backbone_bit_for_bit(trainer):
    made, plan = trainer(regime="small")
    assert [(p.name, p.method) for p in plan.phases] == [("head", "solve")]
    before = weights_of(made.session.model)
    made.run(plan)
    head = {f"{PREDICTIONS}/kernel", f"{PREDICTIONS}/bias"}
    assert changed(before, weights_of(made.session.model)) == head


@pytest.mark.parametrize("policy", ["frozen", "affine", "train"])
def test_fine_tuning_changes_what_the_batchnorm_policy_says(trainer, policy):
    watch = Watch()
    made, plan = trainer([watch], freeze="last=2", batchnorm=policy, epochs=2)
    assert [p.name for p in plan.phases] == ["head", "finetune"]
    made.run(plan)
    got = changed(watch.before[0], watch.after[0])

    expected = {f"{PREDICTIONS}/kernel", f"{PREDICTIONS}/bias"}
    expected |= {f"{block}_conv/{part}" for block in ("middle", "top") for part in CONV}
    parts = {"frozen": (), "affine": ("gamma", "beta"), "train": ("gamma", "beta", *STATISTICS)}
    expected |= {f"{block}_bn/{p}" for block in ("middle", "top") for p in parts[policy]}
    assert got == expected


def test_the_trainable_parameters_told_are_those_trained(trainer):
    made, plan = trainer(freeze="last=1", epochs=1)
    head, finetune = made.run(plan)
    assert head.trainable_parameters == 16 * 3 + 3
    assert finetune.trainable_parameters == head.trainable_parameters + 12 * 3 * 3 * 16 + 16


# Prefix and suffix


def test_prefix_and_suffix_answer_as_the_whole_net_with_dropout_in_it(trainer, images):
    made, plan = trainer(freeze="last=1")
    model, freeze = made.session.model, plan.phases[1].freeze
    model.get_layer(PREDICTIONS).activation = keras.activations.linear
    apply_plan(model, freeze)
    cut = cut_of(model, freeze)
    prefix, suffix = split_at(model, cut)
    part = part_of(images, range(36), 12)
    kept = made.session.store.rows([cut], part).take()
    again = np.concatenate([x for x, _ in computed(prefix.predict_on_batch, part.epochs(False))])
    expected = np.asarray(model(images[0], training=False))
    assert relative_difference(kept, again) < 1e-5
    assert relative_difference(suffix(kept, training=False), expected) < 1e-5
    assert relative_difference(model(images[0], training=True), expected) > 1e-2


@pytest.mark.parametrize("skips", [pytest.param(False, marks=pytest.mark.full), True])
def test_streamed_features_train_as_kept_ones_do(trainer, skips):
    """One batch an epoch, without dropout: only the place that features come from differs."""
    head = {"solver": "fit", "dropout": 0}
    fields = {"freeze": "last=1", "batch_size": 32, "epochs": 3, "head": head}
    logs, network = [], partial(toy_backbone, skips=skips)
    for gibibytes in (1.0, 0.0):
        made, plan = trainer(network=network, cache_size=gibibytes, **fields)
        assert len(cut_of(made.session.model, plan.phases[1].freeze).tensors) == 1 + skips
        results = made.run(plan)
        assert [result.cached for result in results] == [gibibytes > 0] * 2
        rows = made.session.folder.read_log()
        logs.append([[float(r[c]) for c in ("loss", "val_loss")] for r in rows])
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-4)
    assert len({loss for loss, _ in logs[0]}) == 6, "nothing was trained"


@pytest.mark.full
def test_nasnet_trains_on_kept_features(trainer):
    """Two tensors cross behind each of its cells."""
    fields = {"backbone": {"name": "NASNetMobile", "weights": "none"}, "freeze": "until=cell_11"}
    watch = Watch()
    made, plan = trainer([watch], lambda _: build_backbone("NASNetMobile", 32, "none"), **fields)
    (phase,) = (replace(phase, epochs=1) for phase in plan.phases)
    (result,) = made.run(replace(plan, phases=(phase,)))
    assert result.cached
    cut = cut_of(made.session.model, phase.freeze)
    assert len(cut.tensors) == len(list_entries(features_folder())) == 2
    got = changed(watch.before[0], watch.after[0])
    below = {v.path for v in prefix_to(made.session.model, cut.tensors).weights}
    assert got
    assert not got & below


def test_a_head_is_solved_where_nothing_can_be_kept(trainer):
    made, plan = trainer(regime="small", cache_size=0)
    assert plan.phases[0].method == "solve"
    made.run(plan)
    assert made.session.checkpoints.best["accuracy"] > 0.5


# Best, rates, stopping


def test_a_phase_that_makes_it_worse_is_not_delivered(trainer):
    fields = {"freeze": "last=2", "epochs": 2, "optimizer": {"learning_rate": 1e4, "name": "adam"}}
    made, plan = trainer(**fields)
    watch = Watch()
    watch.net = made.session.model
    made.session.callbacks.append(watch)
    results = made.run(plan)
    log = made.session.folder.read_log()
    worst = max(float(row["val_loss"]) for row in log if row["phase"] == "finetune")
    best = min((r for r in log if r["phase"] == "head"), key=lambda row: float(row["val_loss"]))
    assert worst > 10 * float(best["val_loss"]), "the absurd rate did no harm, so nothing is shown"
    # What the head phase left, the fine-tuning phase started from: that is what is delivered.
    assert not changed(watch.before[0], weights_of(made.session.model))
    assert changed(watch.before[0], watch.after[0])
    assert results[1].best_val == results[0].best_val == pytest.approx(float(best["val_accuracy"]))
    saved = keras.models.load_model(made.session.folder.best)
    assert not changed(weights_of(made.session.model), weights_of(saved))


def test_a_phase_that_makes_it_better_is_delivered(trainer):
    fields = {"freeze": "last=2", "epochs": 4, "head": {"solver": "fit", "dropout": 0}}
    watch = Watch()
    made, plan = trainer([watch], optimizer={"name": "adam", "learning_rate": 3e-4}, **fields)
    made.run(plan)
    rows = made.session.folder.read_log()
    scores = [(float(r["val_accuracy"]), -float(r["val_loss"])) for r in rows]
    best = max(range(len(rows)), key=scores.__getitem__)
    assert rows[best]["phase"] == "finetune"
    kept = made.session.checkpoints.best
    assert (kept["accuracy"], -kept["loss"]) == pytest.approx(scores[best], rel=1e-5)
    x, y = (np.concatenate(part) for part in zip(*made.session.val.epochs(False), strict=True))
    p = np.asarray(made.session.model(x, training=False))[np.arange(len(y)), y]
    assert -np.log(p).mean() == pytest.approx(float(rows[best]["val_loss"]), rel=1e-3)


def test_early_stopping_ends_a_phase(trainer):
    # A rate of next to nothing: no epoch is better than the first by much, the second never.
    options = {"name": "sgd", "learning_rate": 1e-30, "patience": 2, "schedule": "constant"}
    fields = {"head": {"solver": "fit", "dropout": 0}, "regime": "small", "epochs": 6}
    made, plan = trainer(optimizer=options, **fields)
    made.run(plan)
    assert len(made.session.folder.read_log()) == 3
    made, plan = trainer(optimizer={**options, "patience": 0}, **fields)
    made.run(plan)
    assert len(made.session.folder.read_log()) == 6


def test_the_rate_falls_at_a_plateau(trainer):
    options = {
        "name": "sgd",
        "learning_rate": 1e-30,
        "patience": 0,
        "schedule": "plateau",
        "plateau_factor": 0.5,
        "plateau_patience": 2,
    }
    fields = {"head": {"solver": "fit", "dropout": 0}, "regime": "small", "epochs": 7}
    made, plan = trainer(optimizer=options, **fields)
    made.run(plan)
    rates = [float(row["learning_rate"]) for row in made.session.folder.read_log()]
    assert rates == pytest.approx([1e-30 * f for f in (1, 1, 1, 0.5, 0.5, 0.25, 0.25)], rel=1e-3)


def test_cosine_rises_then_falls_to_zero(trainer):
    options = {"learning_rate": 1e-3, "patience": 0, "schedule": "cosine", "warmup": 0.5}
    fields = {"head": {"solver": "fit"}, "regime": "small", "epochs": 8}
    made, plan = trainer(optimizer=options, **fields)
    made.run(plan)
    rates = [float(row["learning_rate"]) for row in made.session.folder.read_log()]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1e-3, rel=0.1)
    assert 0 < top < 7
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_a_loss_that_is_no_number_ends_the_phase_and_keeps_the_best(trainer):
    options = {"name": "sgd", "learning_rate": 1e25, "schedule": "constant", "patience": 0}
    made, plan = trainer(freeze="last=2", epochs=9, optimizer=options)
    made.run(plan)
    rows = [row for row in made.session.folder.read_log() if row["phase"] == "finetune"]
    assert len(rows) < 9
    assert all(np.isfinite(w).all() for w in made.session.model.get_weights())
    assert math.isfinite(made.session.checkpoints.best["loss"])


# Whole runs


def train(data, weights, out, callbacks=(), **fields):
    backbone = {**TINY["backbone"], "weights": weights}
    fields = {**TINY, "batch_size": 8, **fields, "backbone": backbone}
    return tlkit.train(data, out=out, callbacks=callbacks, progress=False, **fields)


FITTED = {
    "freeze": "last=3",
    "epochs": 2,
    "head": {"solver": "fit"},
    "optimizer": {"learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def fitted_run(image_folder, tiny_weights, tmp_path_factory):
    """A finished run with a fitted head and fine-tuning; returns it and its callback."""
    watch = Watch()
    out = tmp_path_factory.mktemp("fitted") / "run"
    return train(image_folder, tiny_weights, out, [watch], **FITTED), watch


def test_a_run_folder_holds_all_that_it_should(fitted_run):
    run, _ = fitted_run
    for name in (
        "spec.yaml",
        "plan.json",
        "env.json",
        "labels.json",
        "scan.json",
        "log.csv",
        "metrics.json",
        "predictions.csv",
        "model.keras",
        "curves.png",
        "confusion.png",
        "checkpoints/best.keras",
        "checkpoints/last.keras",
    ):
        assert (run.folder / name).stat().st_size > 0, name
    drafts = [path for path in run.folder.rglob(".*")]
    assert not drafts, "drafts are left"


def test_metrics_json_has_the_keys_that_were_promised(fitted_run):
    metrics = json.loads((fitted_run[0].folder / "metrics.json").read_text())
    assert metrics["task"] == "classification"
    assert metrics["backbone"] == "MobileNet"
    assert metrics["regime"] == "small"
    assert metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert [phase["name"] for phase in metrics["phases"]] == ["head", "finetune"]
    for phase in metrics["phases"]:
        assert {"name", "trainable_parameters", "seconds", "best_val"} <= set(phase)
    for part in ("val", "test"):
        assert 0 <= metrics[part]["accuracy"] <= 1
        assert metrics[part]["loss"] > 0
    seconds = metrics["seconds"]
    assert {"total", "scan", "prefix", "head", "finetune"} <= set(seconds)
    assert seconds["total"] >= seconds["prefix"] + seconds["head"] + seconds["finetune"]


def test_the_log_has_a_row_for_each_epoch(fitted_run):
    with (fitted_run[0].folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == (
        "phase",
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "l2",
        "seconds",
    )
    got = [(row["phase"], row["epoch"]) for row in rows]
    assert got == [("head", "1"), ("head", "2"), ("finetune", "1"), ("finetune", "2")]
    for row in rows:
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"):
            assert math.isfinite(float(row[name]))


def test_callbacks_of_the_user_are_called_in_each_phase(fitted_run):
    assert fitted_run[1].calls == ["begin", "epoch", "epoch", "end"] * 2


def test_each_fitted_phase_leaves_tensorboard_files(fitted_run):
    folder = fitted_run[0].folder / "tensorboard"
    for phase in ("head", "finetune"):
        for part in ("train", "validation"):
            files = list((folder / phase / part).glob("events.out.tfevents.*"))
            assert files
            assert files[0].stat().st_size > 100, f"{phase}/{part} holds no numbers"


def test_predictions_csv_agrees_with_metrics_and_scan(fitted_run):
    run, _ = fitted_run
    with (run.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == run.files.read_json("scan.json")["splits"]["test"]
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert right == pytest.approx(run.metrics["test"]["accuracy"])
    for row in rows:
        p = {label: float(row[f"p_{label}"]) for label in run.labels}
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(p, key=p.get)


def test_validation_metrics_are_those_of_the_delivered_model(fitted_run, image_folder):
    assert_validation_told_is_true(fitted_run[0], image_folder)


def assert_validation_told_is_true(run, data):
    """What `metrics.json` says of the validation part is what the delivered model does there."""
    run = tlkit.open_run(run.folder)
    ids = run.files.read_json("scan.json")["splits"]["val"]
    rows = run.predict([data / id_ for id_ in ids])
    truth = [Path(id_).parent.name for id_ in ids]
    right = np.mean([row["label"] == label for row, label in zip(rows, truth, strict=True)])
    own = [row["probabilities"][label] for row, label in zip(rows, truth, strict=True)]
    assert run.metrics["val"]["accuracy"] == pytest.approx(right)
    assert run.metrics["val"]["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-3)


def test_the_saved_model_needs_plain_keras_only(fitted_run, tmp_path):
    run, _ = fitted_run
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS]
        + [str(path) for path in (run.folder / "model.keras", tmp_path / "x.npy")]
        + [str(tmp_path / "p.npy")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["free"], "the optimizer of a phase is in the model"
    expected = np.asarray(run.model(x, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-5)


def test_both_checkpoints_load(fitted_run):
    run, _ = fitted_run
    for name in ("best", "last"):
        model = keras.models.load_model(run.folder / "checkpoints" / f"{name}.keras")
        assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 3))


@pytest.mark.full
def test_the_same_seed_gives_the_same_run(fitted_run, image_folder, tiny_weights, tmp_path):
    again = train(image_folder, tiny_weights, tmp_path / "again", [Watch()], **FITTED)
    first, second = (
        [[float(row[name]) for name in ("loss", "val_loss")] for row in run.files.read_log()]
        for run in (fitted_run[0], again)
    )
    np.testing.assert_allclose(first, second, rtol=1e-4)
    assert again.metrics["test"]["loss"] == pytest.approx(fitted_run[0].metrics["test"]["loss"])


# Interrupted runs


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """Images of one colour a class: every epoch lowers the loss."""
    folder, random = tmp_path_factory.mktemp("data") / "easy", np.random.default_rng(0)
    for label, colour in (("blue", (60, 80, 210)), ("red", (210, 60, 50))):
        (folder / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(np.array(colour) + random.normal(0, 25, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype("uint8")).save(folder / label / f"{i}.png")
    return folder


INTERRUPTED = {
    "freeze": "last=3",
    "head": {"solver": "fit", "dropout": 0},
    "optimizer": {"name": "adam", "learning_rate": 1e-3, "schedule": "constant", "patience": 0},
    "epochs": 6,
}


@pytest.fixture(scope="module")
def stopped(easy, tiny_weights, tmp_path_factory):
    """A run interrupted in fine-tuning, after epochs that were better than the head's."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted) as caught:
        train(easy, tiny_weights, out, [Interrupt(5)], **INTERRUPTED)
    return tlkit.open_run(out), str(caught.value)


def test_an_interrupted_run_says_how_to_go_on_and_keeps_the_best(stopped, easy):
    run, message = stopped
    assert f"tlkit train --resume {run.folder}" in message
    assert str(run.folder / "checkpoints" / "best.keras") in message
    assert not run.finished
    rows = run.files.read_log()
    assert [row["epoch"] for row in rows] == list("123456") + list("1234")
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert best["phase"] == "finetune", "the test needs an epoch better than the head's"
    assert validation_loss(run, easy) == pytest.approx(float(best["val_loss"]), rel=1e-3)


def validation_loss(run, data):
    ids = run.files.read_json("scan.json")["splits"]["val"]
    rows = run.predict([data / id_ for id_ in ids])
    own = [r["probabilities"][Path(i).parent.name] for r, i in zip(rows, ids, strict=True)]
    return -np.log(own).mean()


def test_a_resumed_run_ends_and_is_no_worse_than_what_was_kept(stopped, easy, tmp_path):
    kept = validation_loss(stopped[0], easy)
    folder = shutil.copytree(stopped[0].folder, tmp_path / "run")
    text = (folder / "spec.yaml").read_text()
    (folder / "spec.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 9"))

    run = resume(folder, progress=False)
    assert run.finished
    assert [phase["name"] for phase in run.metrics["phases"]] == ["head", "finetune"]
    new = [row for row in run.files.read_log() if row["phase"] == "finetune"]
    assert [(row["phase"], row["epoch"]) for row in new] == [("finetune", e) for e in "123456"]
    assert run.metrics["val"]["loss"] <= kept * 1.001 + 1e-6
    assert_validation_told_is_true(run, easy)


def test_a_resumed_run_follows_its_plan_not_todays_rules(stopped, tmp_path):
    folder = shutil.copytree(stopped[0].folder, tmp_path / "run")
    plan = json.loads((folder / "plan.json").read_text())
    plan["phases"][1]["epochs"] = 5
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RunFolderError, match=r"plan\.json is damaged or was replaced"):
        resume(folder, progress=False)
    reseal(folder)
    run = resume(folder, progress=False)
    rows = [row["epoch"] for row in run.files.read_log() if row["phase"] == "finetune"]
    assert rows == list("12345")


def test_a_plan_for_another_backbone_is_not_followed(stopped, tmp_path):
    folder = shutil.copytree(stopped[0].folder, tmp_path / "run")
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace("last=3", "last=4"))
    reseal(folder)
    with pytest.raises(RunFolderError, match=r"plan\.json is missing or unreadable: finetune: cut"):
        resume(folder, progress=False)


def test_a_run_whose_images_changed_is_not_resumed(stopped, tmp_path):
    folder = shutil.copytree(stopped[0].folder, tmp_path / "run")
    scanned = json.loads((folder / "scan.json").read_text())
    scanned["splits"]["test"].pop()
    (folder / "scan.json").write_text(json.dumps(scanned))
    with pytest.raises(RunFolderError, match=r"scan\.json is damaged or was replaced"):
        resume(folder, progress=False)
    for name in ("digests.json", "data.json"):  # as a run of an earlier version
        (folder / name).unlink()
    with pytest.raises(RunFolderError, match="have changed since it was stopped"):
        resume(folder, progress=False)


def test_resuming_a_finished_run_changes_nothing(fitted_run, capsys):
    run, _ = fitted_run
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert resume(run.folder).metrics == run.metrics
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_a_run_interrupted_in_its_first_epoch_is_resumed_as_it_was_planned(
    easy, tiny_weights, tmp_path
):
    class AtOnce(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    options = {"regime": "small", "optimizer": {"patience": 2, "learning_rate": 0.5}}
    with pytest.raises(Interrupted):
        train(easy, tiny_weights, tmp_path / "run", [AtOnce()], **options)
    stopped = tlkit.open_run(tmp_path / "run")
    assert not stopped.files.best.exists()
    with pytest.raises(RunFolderError, match="no model yet: none has been validated. Go on with"):
        stopped.predict(easy)
    assert stopped.plan["phases"][0]["method"] == "fit", "callbacks are called in fitted phases"
    run = resume(tmp_path / "run", progress=False)
    rows = run.files.read_log()
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["learning_rate"] for row in rows), "the head was solved instead"
    assert_validation_told_is_true(run, easy)


@pytest.mark.parametrize("real", [values_of, pytest.param(counts_of, marks=pytest.mark.full)])
def test_ctrl_c_while_the_state_is_taken_leaves_the_one_before(
    real, easy, tiny_weights, tmp_path, monkeypatch
):
    calls = itertools.count(1)
    in_second_epoch = {values_of: 6, counts_of: 3}[real]  # twice and once a state

    def pressed(*arguments):
        if next(calls) == in_second_epoch:
            raise KeyboardInterrupt
        return real(*arguments)

    options = {"regime": "small", "head": {"solver": "fit"}, "epochs": 4, "deterministic": True}
    whole = train(easy, tiny_weights, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(f"tlkit.training.callbacks.{real.__name__}", pressed)
        with pytest.raises(Interrupted):
            train(easy, tiny_weights, tmp_path / "run", **options)
    assert len(tlkit.open_run(tmp_path / "run").files.read_log()) == 2
    resumed = resume(tmp_path / "run", progress=False)
    expected = [{**row, "seconds": ""} for row in whole.files.read_log()]
    assert [{**row, "seconds": ""} for row in resumed.files.read_log()] == expected
    assert resumed.metrics["test"] == whole.metrics["test"]
