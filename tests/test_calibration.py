"""Probabilities: temperature, thresholds, sets of labels; in metrics, answers, exports, reports."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SMALL, reseal, write_images
from scipy.special import expit, logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, precision_score, recall_score

import tlkit
from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.evaluate.calibrated import decided
from tlkit.tasks.calibration import Calibration, best_temperature, calibrate
from tlkit.tasks.classification import Classification
from tlkit.tasks.decisions import Decision, Threshold, choose, prediction_sets, read_threshold
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.probabilities import numpy_tempered
from tlkit.tasks.regression import Regression
from tlkit.tasks.segmentation import Segmentation

NAMES = ("ant", "bee", "cat", "dog")
TASK = Classification(NAMES)


def drawn(count: int, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and classes drawn by their softmax; the logits, too sharp, are multiplied."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, 4))
    truth = np.array([random.choice(4, p=p) for p in softmax(logits, axis=1)])
    return (sharpness * logits).astype(np.float32), truth


class Given(ClassifierMixin, BaseEstimator):
    """Answers with the logits that it is asked about."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return self.classes_[x.argmax(axis=1)]


@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_the_temperature_is_that_of_scikit_learn(sharpness):
    x, y = drawn(300, sharpness)
    model = FrozenEstimator(Given().fit(x, y))
    theirs = CalibratedClassifierCV(model, method="temperature").fit(x, y)
    temperature = best_temperature(x, y, TASK)
    own = numpy_tempered(TASK, softmax(x, axis=1), temperature)
    np.testing.assert_allclose(own, theirs.predict_proba(x), atol=1e-3)
    assert temperature == pytest.approx(sharpness, rel=0.2)
    assert (own.argmax(axis=1) == x.argmax(axis=1)).all()
    loss = TASK.likelihood
    assert loss(y, own) < loss(y, softmax(x, axis=1))


def test_probabilities_are_divided_in_their_logits():
    x, _ = drawn(50, 20)
    p = softmax(x, axis=1)
    np.testing.assert_allclose(numpy_tempered(TASK, p, 2.5), softmax(x / 2.5, axis=1), atol=1e-6)
    np.testing.assert_allclose(
        numpy_tempered(TASK, numpy_tempered(TASK, p, 2.5), 1 / 2.5), p, atol=1e-5
    )
    labels, p = Multilabel(NAMES, (0.2, 0.5, 0.7, 0.9)), expit(x / 5)
    cool = numpy_tempered(labels, p, 1.7)
    np.testing.assert_allclose(cool, expit(logit(p.astype(float)) / 1.7), atol=1e-5)
    assert (labels.tempered(1.7).chosen(cool) == labels.chosen(p)).all()


@pytest.mark.parametrize(
    ("logits", "targets", "task", "temperature", "reason"),
    [
        (*drawn(400, 3), TASK, 3, "fitted on 400 images"),
        (*drawn(9, 3), TASK, None, "9 images: fewer than 10"),
        (10 * np.eye(4)[np.arange(40) % 4], np.arange(40) % 4, TASK, None, "no best temperature"),
        (*drawn(100, 1), TASK, None, "no temperature lowers the loss on 100 images"),
        (
            np.tile([[4.0, -4.0]], (100, 1)),
            np.tile([[1.0, 0.0]], (100, 1)) - (np.arange(100) < 20)[:, None] * [[1, -1]],
            Multilabel(("a", "b")),
            4 / logit(0.8),
            "fitted",
        ),
    ],
    ids=["too sharp", "few", "all right", "as it should be", "labels"],
)
def test_a_temperature_is_kept_where_it_helps(logits, targets, task, temperature, reason):
    found = calibrate(np.asarray(logits, np.float32), targets, task, "images")
    assert reason in found.reason
    if temperature is None:
        assert found.temperature == 1
    else:
        assert found.temperature == pytest.approx(temperature, rel=0.15)
        assert found.nll["calibrated"] < found.nll["raw"]
    assert Calibration(**json.loads(json.dumps(found.to_json()))) == found


def test_sets_by_hand():
    truths = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert prediction_sets(truths, 0.9).start == 0.1  # the ninth of nine: ceil(10 x 0.9)
    assert prediction_sets(truths, 0.81).start == 0.1
    sets = prediction_sets(truths, 0.5)
    assert sets.start == 0.5
    p = np.array([[0.6, 0.4], [0.5, 0.5], [0.4, 0.3]])
    assert sets.members(p).tolist() == [[True, False], [True, True], [True, False]]
    with pytest.raises(SpecError, match=r"9 validation images are too few: .* up to 0\.9\. "):
        prediction_sets(truths, 0.95)
    with pytest.raises(SpecError, match="coverage: must lie above 0, below 1"):
        prediction_sets(truths, 1.0)


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_sets_hold_the_true_class_as_often_as_they_say(coverage):
    """Over many validation parts: of one alone the coverage is spread (Angelopoulos & Bates 2021,
    section 3)."""
    shares = []
    for seed in range(20):
        x, y = drawn(600, 1, seed)
        p = softmax(x, axis=1)
        sets = prediction_sets(p[np.arange(99), y[:99]], coverage)
        shares.append(sets.members(p[99:])[np.arange(501), y[99:]].mean())
    assert coverage - 0.01 < np.mean(shares) < coverage + 0.03


@pytest.mark.parametrize("asked", ["f1", "recall=0.95", "precision=0.75", "recall=1"])
def test_a_threshold_is_the_best_there_is(asked):
    random = np.random.default_rng(1)
    truth = random.random(120) < 0.3
    p = np.clip(random.normal(0.35 + 0.3 * truth, 0.2), 0, 1).round(2).astype(np.float32)
    threshold = read_threshold(asked)
    start, reason = choose(threshold, truth, p)
    scores = [
        tuple(score(truth, p >= at) for score in (f1_score, recall_score, precision_score))
        for at in np.linspace(0.005, 0.995, 100)
        if (p >= at).any()
    ]
    f1, recall, precision = (
        s(truth, p >= start) for s in (f1_score, recall_score, precision_score)
    )
    assert f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}" in reason
    if asked == "f1":
        assert f1 == max(s[0] for s in scores)
    elif threshold.kind == "recall":
        assert recall >= threshold.value
        assert precision == max(s[2] for s in scores if s[1] >= threshold.value)
    else:
        assert precision >= threshold.value
        assert recall == max(s[1] for s in scores if s[2] >= threshold.value)


def test_thresholds_that_there_are_none_of():
    p, truth = np.array([0.9, 0.8, 0.1]), np.array([False, True, False])
    with pytest.raises(SpecError, match=r"none has a precision of 0.9 on 3 .* up to 0\.500"):
        choose(Threshold("precision", 0.9), truth, p)
    with pytest.raises(SpecError, match="no validation image is of the positive class"):
        choose(Threshold("f1"), np.zeros(3, bool), p)
    for wrong in ("0", "1.5", "f2", "recall=0", "recall=", "auc=0.5", "nan", ""):
        with pytest.raises(SpecError, match="Allowed: a number between 0 and 1, f1, recall=R or"):
            read_threshold(wrong)


def test_ranking_by_hand():
    """The area under the curve is the share of pairs in the right order, half of equal ones."""
    p = np.array([0.1, 0.4, 0.35, 0.8, 0.4])
    truth = np.array([0, 0, 1, 1, 1])
    found = Classification(("no", "yes")).metrics(truth, np.stack([1 - p, p], axis=1))
    pairs = [(a > b) + (a == b) / 2 for a in p[truth == 1] for b in p[truth == 0]]
    assert found["roc_auc"] == pytest.approx(np.mean(pairs))
    assert found["average_precision"]["yes"] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4)
    alone = Classification(("no", "yes")).metrics(truth[2:], np.stack([1 - p, p], axis=1)[2:])
    assert alone["roc_auc"] is None


# Runs


def call(*arguments, code=0):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def run(unsure_run, tmp_path_factory):
    """A run with a temperature of 2.5; the training had found none to be of use."""
    folder = shutil.copytree(unsure_run.folder, tmp_path_factory.mktemp("warm") / "run")
    path = folder / "calibration.json"
    written = json.loads(path.read_text())
    assert set(written["truths"]) == set(unsure_run.labels)
    path.write_text(json.dumps({**written, "temperature": 2.5}))
    reseal(folder)
    return tlkit.open_run(folder)


@pytest.fixture(scope="module")
def pixels(image_folder):
    return sorted(image_folder.rglob("*0[0-3].png"))


def probabilities(rows) -> np.ndarray:
    return np.array([list(row["probabilities"].values()) for row in rows])


def test_answers_have_the_temperature_and_raw_ones_have_not(run, pixels):
    raw = json.loads(call("predict", run.folder, *pixels, "--raw", "--json").stdout)
    own, expected = run.predict(pixels), probabilities(raw)
    cool = softmax(np.log(expected) / 2.5, axis=1)
    np.testing.assert_allclose(probabilities(own), cool, atol=1e-6)
    assert np.abs(cool - expected).max() > 0.05
    assert [row["label"] for row in own] == [row["label"] for row in raw]


def test_the_mean_over_an_image_and_its_mirror_image_is_divided_as_a_whole(run):
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    raw, own = (np.asarray(run.answering(tta=True, raw=raw)(images)) for raw in (True, False))
    np.testing.assert_allclose(own, softmax(np.log(raw) / 2.5, axis=1), atol=1e-6)


def test_evaluate_measures_before_and_after(run):
    raw, own = run.evaluate(raw=True, progress=False), run.evaluate(progress=False)
    assert "calibration" not in raw
    found = own["calibration"]
    assert found["temperature"] == 2.5
    assert found["nll"]["raw"] == pytest.approx(raw["loss"], rel=1e-4)
    assert found["nll"]["calibrated"] == own["loss"]
    assert own["accuracy"] == raw["accuracy"]
    assert own["confusion"] == raw["confusion"]
    for key in ("raw", "calibrated"):
        bins = found["reliability"][key]
        assert sum(n for n, *_ in bins) == own["examples"]
        gap = sum(n * abs(p - a) for n, p, a in bins) / own["examples"]
        assert found["ece"][key] == pytest.approx(gap)
    said = call("evaluate", run.folder).stdout
    pair = f"NLL {found['nll']['raw']:.4f} -> {found['nll']['calibrated']:.4f}"
    assert f"by temperature 2.5: {pair}, calibration error" in " ".join(said.split())


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("export") / "own", "onnx", progress=False)


FULL = [pytest.param(kind, marks=pytest.mark.full) for kind in ("savedmodel", "openvino", "litert")]


@pytest.mark.parametrize("kind", ["onnx", *FULL])
def test_exports_have_the_temperature_in_their_graph(run, exported, pixels, kind, tmp_path):
    out = exported if kind == "onnx" else run.export(tmp_path / "own", kind, progress=False)
    found = tlkit.open_export(out)
    assert found.about.task.temperature == 2.5
    assert "their logits are divided by 2.5" in (out / "README.md").read_text()
    expected = probabilities(run.predict(pixels))
    np.testing.assert_allclose(probabilities(found.predict(pixels)), expected, atol=1e-4)


def test_an_export_may_be_raw_and_is_measured_as_its_run(
    run, exported, pixels, image_folder, tmp_path
):
    call("export", run.folder, "--format", "onnx", "--raw", "--out", tmp_path / "raw")
    given = tlkit.open_export(tmp_path / "raw").predict(pixels)
    plain = probabilities(run.predict(pixels, raw=True))
    np.testing.assert_allclose(probabilities(given), plain, atol=1e-4)
    own, raw = (
        tlkit.open_export(path).evaluate(image_folder, progress=False)
        for path in (exported, tmp_path / "raw")
    )
    assert own["calibration"]["nll"]["raw"] == pytest.approx(raw["loss"], rel=1e-3)
    assert own["calibration"]["nll"]["calibrated"] == own["loss"] != raw["loss"]
    assert "calibration" not in raw


def test_its_report_shows_reliability_before_and_after(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    own = tlkit.open_run(folder).evaluate(progress=False)
    metrics["test"]["calibration"] = own["calibration"]
    path.write_text(json.dumps(metrics))
    reseal(folder)
    text = tlkit.report(folder, progress=False).read_text("utf-8")
    for title, key in (("as trained", "raw"), ("by temperature 2.5", "calibrated")):
        _, _, after = text.partition(f"Reliability {title}</h")
        assert f"calibration error {own['calibration']['ece'][key]:.3f}" in after[:12000]


@pytest.fixture(scope="module")
def pair(tiny_weights, tmp_path_factory):
    """A run of two classes on labels of which a quarter is wrong."""
    folder = write_images(tmp_path_factory.mktemp("pair") / "shapes", ("disc", "square"), 30)
    random = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for path in sorted(folder.rglob("*.png")):
            wrong = random.random() < 0.25
            writer.writerow(
                [path.relative_to(folder), ("disc", "square")[wrong ^ ("square" in path.name)]]
            )
    fields = {**SMALL, "regime": "small"}
    return tlkit.train(folder / "table.csv", out=folder / "run", val=0.3, progress=False, **fields)


def test_a_training_tells_its_temperature_and_keeps_its_own_numbers(pair):
    found, test = pair.calibration, pair.metrics["test"]
    block = test["calibration"]
    assert "folds" in found.reason
    assert found.temperature == block["temperature"]
    assert test["loss"] == block["nll"]["raw"]
    assert sum(map(len, found.truths.values())) == pair.metrics["examples"]["val"]
    with (pair.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    p = np.array([float(row[f"p_{row['truth']}"]) for row in rows])
    assert -np.log(p).mean() == pytest.approx(test["loss"], rel=1e-3)
    report = (pair.folder / "report.html").read_text("utf-8")
    assert f'data-figure="ROC-AUC" data-value="{test["roc_auc"]}"' in report


def test_a_threshold_decides_between_two_classes(pair, tmp_path):
    data = pair.folder.parent
    plain = pair.predict(data / "disc")
    p = np.array([row["probabilities"]["disc"] for row in plain])
    at = float(np.sort(p)[len(p) // 2])
    own = pair.predict(data / "disc", threshold=at, positive="disc")
    assert [row["label"] for row in own] == ["disc" if x >= at else "square" for x in p]
    assert all(row["score"] == row["probabilities"][row["label"]] for row in own)
    asked = ["evaluate", pair.folder, "--threshold", "recall=0.9"]
    done = call(*asked, "--json", "--csv", tmp_path / "rows.csv")
    found = json.loads(done.stdout)
    assert found["threshold"]["positive"] == "square"
    assert "recall=0.9 on 18 validation images: precision" in found["threshold"]["chosen"]
    assert "(the second class; --positive names another)" in done.stderr
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    start = found["threshold"]["from"]
    given = ["square" if float(row["p_square"]) >= start else "disc" for row in rows]
    assert [row["prediction"] for row in rows] == given
    right = np.mean([row["truth"] == row["prediction"] for row in rows])
    assert found["accuracy"] == pytest.approx(right)


def test_sets_of_labels_are_given_and_measured(pair, tmp_path):
    data = pair.folder.parent / "square"
    sets = prediction_sets([p for own in pair.calibration.truths.values() for p in own], 0.9)
    start = np.float32(sets.start)
    rows = pair.predict(data, coverage=0.9)
    for row in rows:
        members = {name for name, p in row["probabilities"].items() if np.float32(p) >= start}
        assert set(row["set"]) == members | {row["label"]}
        assert row["set"][0] == row["label"]
    assert {len(row["set"]) for row in rows} == {1, 2}
    call("predict", pair.folder, data, "--coverage", "0.9", "--csv", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert [r["set"] for r in csv.DictReader(file)] == ["|".join(r["set"]) for r in rows]
    assert "set: square, disc" in call("predict", pair.folder, data, "--coverage", "0.9").stdout
    metrics = pair.evaluate(coverage=0.9, progress=False)
    found = metrics["sets"]
    assert found["coverage"] == 0.9
    assert 1 <= found["mean_size"] <= 2
    said = " ".join(call("evaluate", pair.folder, "--coverage", "0.9").stdout.split())
    assert f"{found['measured']:.3f} hold the true label (0.9 asked for)" in said
    assert f"ROC-AUC {metrics['roc_auc']:.3f}; average precision: disc" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--threshold", "0.3"],
            "threshold: has no meaning for the task classification of 3 class",
        ),
        (["--positive", "disc"], "positive: has no meaning for the task classification of 3"),
        (["--threshold", "much"], "threshold: Allowed: a number between 0 and 1"),
        (["--coverage", "0.999"], "coverage: 6 validation images are too few"),
        (["--coverage", "0.5", "--raw"], "coverage: is chosen by calibrated answers"),
        (["--coverage", "0.5", "--tta", "flip"], "and tta gives others. Allowed: one of the two"),
        (["--coverage", "0.5", "--top", "2"], "--top: has no effect with --coverage"),
    ],
    ids=str,
)
def test_options_that_have_no_effect_or_cannot_be_had(run, pixels, options, words):
    done = call("predict", run.folder, pixels[0], *options, code=2)
    assert words in done.stderr
    assert "Received" in done.stderr


def test_of_two_classes_one_is_named(pair):
    image = next((pair.folder.parent / "disc").iterdir())
    for options, words in (
        ({"positive": "disc"}, "positive: has no effect without a threshold"),
        ({"positive": "disk", "threshold": 0.3}, "is no class. Did you mean 'disc'"),
        ({"threshold": "f1", "raw": True}, "threshold: is chosen by calibrated answers"),
        ({"threshold": "precision=1"}, "none has a precision of 1 on 18 validation images"),
    ):
        with pytest.raises(SpecError, match=words):
            pair.predict([image], **options)


def test_an_export_takes_none_of_the_options(run, pixels, tmp_path):
    (tmp_path / "model.onnx").touch()
    for options, words in (
        (["--raw"], "--raw: {} is an export, which has it in its graph or not. Allowed: a run"),
        (["--coverage", "0.9"], "--coverage: {} is an export, which knows nothing of the valid"),
        (["--threshold", "0.3"], "--threshold: {} is an export"),
    ):
        done = call("predict", tmp_path, pixels[0], *options, code=2)
        assert words.format(tmp_path) in done.stderr


@pytest.mark.parametrize("task", [Regression(("x",)), Segmentation(("a", "b"))])
def test_tasks_without_probabilities_take_none(task):
    with pytest.raises(SpecError, match=f"raw: has no effect on the task {task.name}"):
        decided(task, None, Decision(), raw=True, tta=False)
    for asked in (Decision(threshold=0.3), Decision(coverage=0.9), Decision(positive="a")):
        (name,) = asked.given()
        with pytest.raises(SpecError, match=f"{name}: has no meaning for the task {task.name}"):
            decided(task, None, asked, raw=False, tta=False)
    assert decided(task, None, Decision(), raw=False, tta=False) == task


def test_labels_take_one_threshold_for_all():
    task = Multilabel(("a", "b"), (0.2, 0.9))
    found = decided(task, Calibration(2.0), Decision(threshold="0.3"), raw=False, tta=False)
    assert found.thresholds == (0.3, 0.3)
    for asked, words in (
        (Decision(threshold="f1"), "each label has the threshold with the highest F1"),
        (Decision(coverage=0.9), "coverage: has no meaning for the task multilabel"),
        (Decision(threshold=0.3, positive="a"), "positive: has no meaning for the task multilab"),
    ):
        with pytest.raises(SpecError, match=words):
            decided(task, Calibration(2.0), asked, raw=False, tta=False)


def test_a_run_without_validation_answers_says_so():
    two = Classification(("a", "b"))
    for asked in (Decision(threshold="f1"), Decision(coverage=0.9)):
        for found in (None, Calibration(reason="head.refit")):
            with pytest.raises(SpecError, match="is found by answers to validation images"):
                decided(two, found, asked, raw=False, tta=False)
    assert decided(two, None, Decision(threshold=0.3), raw=True, tta=True).cutoff.start == 0.3
