"""Multi-label classification and regression, each through train, evaluate, predict and export."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import FULL, TINY
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

import tlkit
from tlkit.cli.main import main
from tlkit.data.number_targets import NumberTargets
from tlkit.data.pictures.decode import decode_and_resize
from tlkit.data.readers.open import open_source
from tlkit.data.split import split
from tlkit.data.targets import LabelsTargets
from tlkit.errors import DataError, SpecError
from tlkit.spec.tables import TableSpec
from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.registry import task_from_json
from tlkit.tasks.regression import Regression


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A folder of 60 plain images with a CSV: labels, and their colour in numbers."""
    folder = tmp_path_factory.mktemp("coloured")
    random = np.random.default_rng(0)
    rows = []
    for i in range(60):
        red, bright = i % 2, (i // 2) % 2
        base = random.integers(20, 60) + 120 * bright
        pixels = np.clip(random.normal(base, 10, (40, 44, 3)), 0, 255)
        pixels[..., 0] = np.clip(pixels[..., 0] + 60 * red, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
        names = [name for name, yes in (("red", red), ("bright", bright)) if yes]
        rows.append([f"{i:02d}.png", "|".join(names), pixels.mean(), pixels[..., 0].mean()])
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "light", "redness"])
        writer.writerows(rows)
    return folder


FITTED = {
    "regime": "small",
    "head": {"solver": "fit", "hidden": [16], "batchnorm": True},
    "epochs": 3,
}


@pytest.fixture(scope="module")
def labels_run(coloured, tiny_weights, tmp_path_factory):
    # Keras's own engine: other engines' features differ by rounding, and metrics are compared.
    fields = {**TINY, "engine": "keras", "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    out = tmp_path_factory.mktemp("labels") / "run"
    return tlkit.train(
        coloured / "table.csv", task="multilabel", regime="small", out=out, progress=False, **fields
    )


@pytest.fixture(scope="module")
def numbers_run(coloured, tiny_weights, tmp_path_factory):
    fields = {**TINY, "engine": "keras", "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    out = tmp_path_factory.mktemp("numbers") / "run"
    table = {"targets": ["light", "redness"]}
    return tlkit.train(
        coloured / "table.csv", task="regression", table=table, regime="small", out=out,
        progress=False, **fields,
    )  # fmt: skip


def test_labels_are_learnt(labels_run):
    assert labels_run.labels == ("bright", "red")
    test = labels_run.metrics["test"]
    assert test["macro_f1"] > 0.8
    assert set(test["per_class"]) == {"bright", "red"}
    assert labels_run.metrics["task"] == "multilabel"
    assert (labels_run.folder / "labels.png").stat().st_size > 1000


def test_numbers_are_learnt_in_their_own_units(numbers_run):
    test = numbers_run.metrics["test"]
    assert numbers_run.labels == ("light", "redness")
    assert test["r2"] > 0.5
    assert set(test["per_target"]) == {"light", "redness"}
    assert set(numbers_run.metrics["val"]) == {"loss", "mae"}
    assert (numbers_run.folder / "scatter.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["labels_run", "numbers_run"])
def test_evaluation_repeats_the_run_s_own_test(name, request):
    run = request.getfixturevalue(name)
    again = tlkit.open_run(run.folder).evaluate(progress=False)
    for key in ("examples", "loss", "macro_f1" if "labels" in name else "mae"):
        assert again[key] == pytest.approx(run.metrics["test"][key], rel=1e-5)


def test_labels_are_given_from_their_thresholds_on(labels_run, coloured):
    rows = labels_run.predict([coloured / "03.png", coloured / "gone.png"])
    thresholds = dict(zip(labels_run.labels, labels_run.task.thresholds, strict=True))
    p = rows[0]["probabilities"]
    assert rows[0]["labels"] == [name for name in p if p[name] >= thresholds[name]]
    assert rows[0]["label"] == max(p, key=p.get)
    assert rows[1]["labels"] is None
    assert rows[1]["error"].startswith("cannot be read")


def test_numbers_are_predicted_near_the_truth(numbers_run, coloured):
    (row,) = numbers_run.predict(coloured / "00.png")
    with Image.open(coloured / "00.png") as image:
        truth = np.asarray(image).mean()
    assert set(row) == {"path", "values", "error"}
    assert abs(row["values"]["light"] - truth) < 60


def test_predictions_csv_of_labels_and_numbers(labels_run, numbers_run):
    with (labels_run.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "truth", "prediction", "p_bright", "p_red"]
    assert "bright|red" in {row["truth"] for row in rows}
    with (numbers_run.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [abs(float(r["truth_light"]) - float(r["prediction_light"])) for r in rows]
    expected = numbers_run.metrics["test"]["per_target"]["light"]["mae"]
    assert np.mean(errors) == pytest.approx(expected, rel=1e-3)


PLAIN = """
import sys
for name in ("tlkit", "keras"):
    sys.modules[name] = None
import json
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
data = tf.constant([open(sys.argv[2], "rb").read()])
answer = model.signatures["serving_default"](image_bytes=data)
print(json.dumps({name: value.numpy()[0].tolist() for name, value in answer.items()
                  if value.dtype != tf.string}))
"""


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        pytest.param("labels_run", {"probabilities", "score", "given"}, marks=pytest.mark.full),
        pytest.param("numbers_run", {"values"}, marks=pytest.mark.full),
    ],
)
def test_the_export_answers_without_tlkit(name, outputs, request, coloured, tmp_path):
    run = request.getfixturevalue(name)
    out = run.export(tmp_path / "served", progress=False)
    image = coloured / "05.png"
    command = [sys.executable, "-c", PLAIN, str(out), str(image)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answer = json.loads(printed)
    (row,) = run.predict(image)
    assert set(answer) == outputs
    if "values" in outputs:
        np.testing.assert_allclose(answer["values"], list(row["values"].values()), rtol=1e-4)
    else:
        p = row["probabilities"]
        np.testing.assert_allclose(answer["probabilities"], list(p.values()), atol=1e-4)
        given = [name for name, yes in zip(p, answer["given"], strict=True) if yes]
        assert given == row["labels"]


@pytest.mark.parametrize("task", ["multilabel", pytest.param("regression", marks=pytest.mark.full)])
def test_a_head_of_every_kind_is_fitted_and_saved(task, coloured, tmp_path):
    run = tlkit.train(
        coloured / "table.csv", task=task, table={"label": "light"} if task == "regression" else {},
        out=tmp_path / "run", progress=False, **TINY, **FITTED,
    )  # fmt: skip
    model = keras.models.load_model(run.folder / "model.keras", compile=False)
    log = run.files.read_log()
    assert f"val_{run.task.metric}" in log[0]
    assert len(log) == 3
    assert model.get_layer("head_hidden_1_bn")


def test_the_command_line_shows_labels_and_numbers(labels_run, numbers_run, coloured, tmp_path):
    image, runner = str(coloured / "03.png"), CliRunner()
    assert "bright" in runner.invoke(main, ["predict", str(labels_run.folder), image]).output
    numbers = runner.invoke(main, ["predict", str(numbers_run.folder), image])
    assert "redness" in numbers.output
    file = tmp_path / "p.csv"
    runner.invoke(main, ["predict", str(numbers_run.folder), image, "--csv", str(file)])
    with file.open(newline="") as rows:
        (row,) = csv.DictReader(rows)
    assert float(row["light"]) > 0
    assert list(row)[-1] == "error"
    assert (
        "mean absolute error" in runner.invoke(main, ["evaluate", str(numbers_run.folder)]).output
    )
    assert "micro F1" in runner.invoke(main, ["evaluate", str(labels_run.folder)]).output


def test_metrics_of_labels_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    truth = (random.random((50, 3)) > 0.6).astype(np.float32)
    p = random.random((50, 3)).astype(np.float32)
    task = Multilabel(("a", "b", "c"), (0.3, 0.5, 0.7))
    found, given = task.metrics(truth, p), p >= np.array([0.3, 0.5, 0.7], np.float32)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, given, average="macro"))
    assert found["micro_f1"] == pytest.approx(f1_score(truth, given, average="micro"))
    expected = average_precision_score(truth, p, average="macro")
    assert found["mean_average_precision"] == pytest.approx(expected, abs=1e-6)
    assert found["accuracy"] == (truth == given).all(axis=1).mean()


def test_a_label_that_no_image_has_is_not_ranked():
    task = Multilabel(("a", "b"))
    truth = np.array([[1, 0], [0, 0]], np.float32)
    found = task.metrics(truth, np.array([[0.9, 0.1], [0.2, 0.3]], np.float32))
    assert found["per_class"]["b"]["average_precision"] is None
    assert found["mean_average_precision"] == 1.0


def test_metrics_of_numbers_by_hand():
    task = Regression(("x", "y"))
    truth = np.array([[0.0, 10.0], [2.0, 10.0]])
    found = task.metrics(truth, truth + np.array([[1.0, 0.0], [-1.0, 4.0]]))
    assert found["mae"] == 1.5
    assert found["per_target"]["y"] == {"mae": 2.0, "rmse": np.sqrt(8), "r2": 0.0}
    assert found["per_target"]["x"]["r2"] == 0.0


def test_thresholds_give_the_highest_f1_and_stay_where_nothing_is_gained():
    truth = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], np.float32)
    p = np.array([[0.3, 0.9], [0.2, 0.1], [0.1, 0.8], [0.05, 0.2]], np.float32)
    task = Multilabel(("a", "b")).with_thresholds(truth, p)
    assert task.thresholds[0] == pytest.approx(0.15)
    assert task.thresholds[1] == 0.5
    assert (task.chosen(p) == truth).all()


@pytest.mark.parametrize(
    "task",
    [Classification(("a", "b")), Multilabel(("a", "b"), (0.1, 0.5)), Regression(("x",))],
    ids=lambda task: task.name,
)
def test_a_task_survives_json(task):
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


def test_the_bias_answers_as_the_targets_are_spread():
    p = np.exp(Classification(("a", "b")).bias(np.array([0] * 98 + [1] * 0)))
    np.testing.assert_allclose(p, [0.99, 0.01])
    raw = Multilabel(("a", "b")).bias(np.array([[1, 0]] * 98, np.float32))
    np.testing.assert_allclose(1 / (1 + np.exp(-raw)), [0.99, 0.01], rtol=1e-5)


def test_a_constant_target_is_answered_and_not_divided_by():
    task = Regression(("x",)).fit(np.full((5, 1), 3.0))
    assert task.scale == (1.0,)
    np.testing.assert_array_equal(task.scaled(np.full((2, 1), 3.0)), 0)


def numbered(count):
    rows = [(f"{i:03d}.png", (float(i),)) for i in range(count)]
    from tlkit.data.example import Example

    return [Example(name, label) for name, label in rows]


def test_each_part_gets_small_and_large_numbers():
    examples = numbered(100)
    digests = {e.id: e.id for e in examples}
    shares = {"val": 0.15, "test": 0.15}
    parts = split({"train": examples}, digests, shares, 0, NumberTargets())
    for part in (parts.val, parts.test):
        values = [e.label[0] for e in part]
        assert min(values) < 20
        assert max(values) > 80
        assert 10 <= len(part) <= 20


def test_a_rare_label_reaches_every_part():
    from tlkit.data.example import Example

    examples = [Example(f"{i}.png", ("common",)) for i in range(90)]
    examples += [Example(f"r{i}.png", ("common", "rare")) for i in range(9)]
    digests = {e.id: e.id for e in examples}
    parts = split({"train": examples}, digests, {"val": 0.15, "test": 0.15}, 0, LabelsTargets())
    for part in (parts.train, parts.val, parts.test):
        assert any("rare" in e.label for e in part)


def written(tmp_path, lines):
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "a.png").touch()
    return str(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("lines", "targets", "message"),
    [
        (["image,label", "a.png,x"], NumberTargets(), "line 2: label: must be a number. .*'x'"),
        (["image,label", "a.png,nan"], NumberTargets(), "must be a number"),
        (["image,label", "a.png,1"], NumberTargets(TableSpec(targets=["x"])), "lacks the column x"),
        (["image,label", "a.png,", "b.png,|"], LabelsTargets(), "no image has a label"),
    ],
)
def test_a_table_that_does_not_fit_the_task_says_where(tmp_path, lines, targets, message):
    with pytest.raises(DataError, match=message):
        open_source(written(tmp_path, lines), targets=targets)


def test_columns_and_separator_can_be_named(tmp_path):
    lines = ["file;x", "a.png;red, round", "b.png;round"]
    path = written(tmp_path, [line.replace(", ", "/").replace(";", ",") for line in lines])
    table = TableSpec(image="file", label="x", separator="/")
    source = open_source(path, targets=LabelsTargets(table))
    assert source.outputs == ("red", "round")
    assert [e.label for e in source.parts["train"]] == [("red", "round"), ("round",)]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_class_folders_are_refused_for_other_tasks(task, image_folder, tmp_path):
    arguments = [
        "train",
        str(image_folder),
        "--set",
        f"task={task}",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "gives one class an image. Allowed for this task: a CSV file or arrays" in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_task_is_refused():
    with pytest.raises(SpecError, match="task: unknown. Allowed: classification, multilabel, reg"):
        tlkit.train("x", task="tagging")


@pytest.mark.parametrize("normalize", [pytest.param("dataset", marks=pytest.mark.full), "pca"])
def test_normalised_colours_have_mean_zero_and_deviation_one(normalize, coloured, tmp_path):
    run = tlkit.train(
        coloured / "table.csv", task="multilabel", normalize=normalize, regime="small",
        out=tmp_path / "run", progress=False, **TINY,
    )  # fmt: skip
    model = keras.models.load_model(run.folder / "model.keras", compile=False)
    # The first layer of the application sees what the normalisation gives.
    seen = keras.Model(model.input, model.get_layer("conv1").input)
    ids = run.files.read_json("scan.json")["splits"]["train"]
    images = np.stack([decode_and_resize((coloured / i).read_bytes(), 32) for i in ids])
    colours = seen.predict(images, verbose=0).reshape(-1, 3)
    np.testing.assert_allclose(colours.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(colours.std(axis=0), 1, atol=1e-2)
    if normalize == "pca":
        np.testing.assert_allclose(np.cov(colours.T), np.eye(3), atol=1e-2)


def test_metrics_of_a_single_label_are_of_its_presence():
    truth = np.array([[1], [0], [0], [0], [1]], np.float32)
    p = np.array([[0.9], [0.1], [0.2], [0.3], [0.2]], np.float32)
    found = Multilabel(("a",)).metrics(truth, p)
    row = found["per_class"]["a"]
    assert (row["precision"], row["recall"], row["support"]) == (1.0, 0.5, 2)
    assert found["macro_f1"] == found["micro_f1"] == pytest.approx(2 / 3)


def test_a_scan_counts_labels(coloured):
    arguments = ["data", "scan", str(coloured / "table.csv"), "--set", "task=multilabel", "--json"]
    summary = json.loads(CliRunner().invoke(main, arguments).stdout)
    assert summary["classes"]["train"] == {"bright": 30, "red": 30}


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.full)])
def test_half_precision_reaches_the_backbone_and_not_the_head(precision, coloured, tmp_path):
    head = {"solver": "fit", "hidden": [8], "pooling": "gem"}
    run = tlkit.train(
        coloured / "table.csv", task="multilabel", precision=precision, regime="medium",
        freeze="last=2", epochs=2, head=head, out=tmp_path / "run", progress=False, **TINY,
    )  # fmt: skip
    dtypes = {layer.name: layer.compute_dtype for layer in run.model.layers}
    assert dtypes["conv_pw_13"] == precision
    assert {dtypes[x] for x in ("head_pool", "head_hidden_1", "predictions")} == {"float32"}
    assert all(np.isfinite(w).all() for w in run.model.get_weights())
    if FULL:
        assert run.export(progress=False).is_dir()
