"""Metrics against scikit-learn and by hand; the table and the drawings of a report."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn

from tlkit.reporting.figures import draw_curves
from tlkit.reporting.written import as_csv
from tlkit.tasks.classification import Classification
from tlkit.tasks.drawing import draw_confusion, draw_labels
from tlkit.tasks.metrics import (
    classification_metrics,
    macro_f1,
    multilabel_headline,
    top_k,
    wilson_interval,
)
from tlkit.tasks.multilabel import Multilabel

LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 200)
    p = random.dirichlet(np.ones(4), 200)
    p[np.arange(200), truth] += 0.4
    return truth, (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def test_all_numbers_agree_with_scikit_learn(answers):
    truth, p = answers
    found = classification_metrics(truth, p, LABELS)
    predicted = p.argmax(axis=1)
    assert found["examples"] == 200
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, predicted))
    assert found["loss"] == pytest.approx(sklearn.log_loss(truth, p), rel=1e-5)
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(truth, predicted, average="macro"))
    assert found["confusion"] == sklearn.confusion_matrix(truth, predicted).tolist()
    for k in (2, 3):
        expected = sklearn.top_k_accuracy_score(truth, p, k=k)
        assert found["top_k"][str(k)] == pytest.approx(expected)
    for i, label in enumerate(LABELS):
        row = found["per_class"][label]
        assert row["support"] == (truth == i).sum()
        one = {"y_true": truth == i, "y_pred": predicted == i}
        assert row["precision"] == pytest.approx(sklearn.precision_score(**one))
        assert row["recall"] == pytest.approx(sklearn.recall_score(**one))
        assert row["f1"] == pytest.approx(sklearn.f1_score(**one))


def test_by_hand():
    truth = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7]], np.float32)
    found = classification_metrics(truth, p, ("no", "yes"))
    assert found["accuracy"] == 0.75
    assert found["confusion"] == [[1, 1], [0, 2]]
    assert found["loss"] == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.7]).mean(), rel=1e-6)
    assert found["per_class"]["no"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }
    assert found["per_class"]["yes"]["precision"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)


def test_metrics_are_ready_for_json(answers):
    found = classification_metrics(*answers, LABELS)
    assert json.loads(json.dumps(found)) == found


def sure(answers: list[int], classes: int) -> np.ndarray:
    """Probabilities (n, classes) that are all but sure of these answers."""
    return (0.9 * np.eye(classes)[answers] + 0.1 / classes).astype(np.float32)


@pytest.mark.parametrize(
    ("truth", "answers", "classes"),
    [
        ([0, 1], [0, 1], 3),
        ([0, 0, 0], [0, 0, 0], 3),  # one class of three
        ([0, 1], [2, 1], 4),  # given, never there: counts with 0
        ([0, 1, 1], [1, 0, 0], 5),  # all wrong
        ([3, 3, 1], [3, 1, 1], 6),
        ([0], [1], 12),  # a single image
    ],
)
def test_macro_f1_is_over_classes_that_occur_in_truth_or_prediction(truth, answers, classes):
    labels = [f"class {i}" for i in range(classes)]
    found = classification_metrics(np.array(truth), sure(answers, classes), labels)
    expected = sklearn.f1_score(truth, answers, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    for i, label in enumerate(labels):
        row = found["per_class"][label]
        if i in {*truth, *answers}:
            assert None not in row.values()
        else:
            assert row == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert len(found["confusion"]) == classes
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("truth", "answers"),
    [
        ([[1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 1]]),
        ([[1, 0, 0], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]]),  # the third is given, never there
        ([[0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]),  # there, never given
        ([[1, 1, 1], [1, 1, 1]], [[1, 0, 1], [0, 0, 1]]),  # in every image
    ],
)
def test_macro_f1_of_labels_is_over_labels_that_occur(truth, answers):
    task = Multilabel(("a", "b", "c"))
    truth, answers = np.array(truth, np.float32), np.array(answers)
    found = task.metrics(truth, np.where(answers, 0.9, 0.1).astype(np.float32))
    occur = [i for i in range(3) if truth[:, i].any() or answers[:, i].any()]
    each = [sklearn.f1_score(truth[:, i], answers[:, i], zero_division=0) for i in occur]
    assert found["macro_f1"] == pytest.approx(np.mean(each))
    absent = {name for name, row in found["per_class"].items() if row["f1"] is None}
    assert absent == {task.outputs[i] for i in range(3) if i not in occur}
    assert macro_f1(truth, answers > 0) == pytest.approx(np.mean(each))
    fitted = task.keras_metric()
    for row in range(2):  # in two batches, as training does
        fitted.update_state(truth[row : row + 1], np.where(answers, 0.9, 0.1)[row : row + 1])
    assert float(fitted.result()) == pytest.approx(np.mean(each), abs=1e-6)


def test_labels_of_which_none_occurs_are_not_measured(tmp_path):
    task = Multilabel(("a", "b"))
    found = task.metrics(np.zeros((3, 2), np.float32), np.full((3, 2), 0.1, np.float32))
    for name in ("macro_f1", "micro_f1", "mean_average_precision"):
        assert found[name] is None
    assert multilabel_headline(found) == "macro F1 -, micro F1 -, mean average precision -, on 3"
    assert found["accuracy"] == 1
    draw_labels(found["per_class"], tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image:
        assert image.size[0] > 100


def test_headline_of_labels_in_every_image_has_nothing_to_rank():
    found = Multilabel(("a",)).metrics(np.ones((2, 1), np.float32), np.full((2, 1), 0.9))
    text = "macro F1 1.000, micro F1 1.000, mean average precision -, on 2"
    assert multilabel_headline(found) == text


def test_a_probability_of_zero_gives_a_finite_loss():
    p = np.array([[0.0, 1.0]], np.float32)
    loss = classification_metrics(np.array([0]), p, ("a", "b"))["loss"]
    assert loss == pytest.approx(-np.log(1e-7), rel=1e-4)


def test_the_loss_is_that_of_keras(answers):
    import keras

    truth, p = answers
    expected = float(keras.losses.SparseCategoricalCrossentropy()(truth, p))
    assert classification_metrics(truth, p, LABELS)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("k", "share"), [(1, 1 / 3), (2, 2 / 3), (3, 1.0)])
def test_top_k(k, share):
    p = np.array([[0.5, 0.3, 0.2]] * 3)
    assert top_k(np.array([0, 1, 2]), p, k) == pytest.approx(share)


@pytest.mark.parametrize(
    ("classes", "keys"), [(2, ["1"]), (3, ["1", "2"]), (8, ["1", "2", "3", "4", "5"])]
)
def test_top_k_up_to_five_and_never_all_classes(classes, keys):
    p = np.full((2, classes), 1 / classes, np.float32)
    found = classification_metrics(np.array([0, 1]), p, [str(i) for i in range(classes)])
    assert list(found["top_k"]) == keys


def test_top_1_is_the_accuracy_also_where_classes_tie():
    p = np.full((4, 3), 1 / 3, np.float32)
    found = classification_metrics(np.array([0, 1, 2, 0]), p, ("a", "b", "c"))
    assert found["top_k"]["1"] == found["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("right", "total", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))],
)
def test_wilson_interval_against_published_values(right, total, interval):
    # Newcombe 1998, table I, method 3 (score without continuity correction).
    assert wilson_interval(right, total) == pytest.approx(interval, abs=6e-5)


@pytest.mark.parametrize("right", [0, 1, 3])
def test_wilson_interval_stays_inside_and_holds_the_share(right):
    low, high = wilson_interval(right, 3)
    assert -1e-12 <= low <= right / 3 <= high <= 1 + 1e-12


def predictions_csv(task, ids, truth, outputs):
    found = task.evaluator()
    found.update(ids, truth, None, outputs)
    return as_csv(found.rows())


def test_predictions_csv(answers):
    _, p = answers
    labels = ("ant", 'b"e,e', "grün", "dog")
    text = predictions_csv(
        Classification(tuple(labels)), ["x/1.jpg", "x/ä, 2.jpg"], ["ant", 'b"e,e'], p[:2]
    )
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["id", "truth", "prediction", *(f"p_{label}" for label in labels)]
    assert [row[0] for row in rows[1:]] == ["x/1.jpg", "x/ä, 2.jpg"]
    assert rows[2][1] == 'b"e,e'
    for row, expected in zip(rows[1:], p, strict=False):
        assert row[2] == labels[expected.argmax()]
        assert [float(v) for v in row[3:]] == pytest.approx(expected.tolist(), abs=1e-6)


def test_predictions_csv_needs_as_many_of_everything(answers):
    with pytest.raises(ValueError, match="zip"):
        predictions_csv(Classification(LABELS), ["1"], ["ant", "bee"], answers[1][:2])


def colours(path) -> int:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        return len(image.convert("RGB").getcolors(image.width * image.height))


@pytest.mark.parametrize("classes", [2, 40])
def test_the_confusion_matrix_is_drawn(tmp_path, classes):
    random = np.random.default_rng(0)
    confusion = random.integers(0, 9, (classes, classes)).tolist()
    draw_confusion(confusion, [f"class {i}" for i in range(classes)], tmp_path / "c.png")
    assert colours(tmp_path / "c.png") > 10


def test_confusion_matrices_that_differ_look_different(tmp_path):
    for name, confusion in (("one", [[5, 0], [0, 5]]), ("other", [[0, 5], [5, 0]])):
        draw_confusion(confusion, ["a", "b"], tmp_path / f"{name}.png")
    one, other = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("one", "other"))
    assert (one != other).any()


def test_a_class_without_images_is_drawn_too(tmp_path):
    draw_confusion([[3, 1], [0, 0]], ["a", "b"], tmp_path / "c.png")
    assert colours(tmp_path / "c.png") > 2


def log_row(phase: str, epoch: int, **changes: str) -> dict[str, str]:
    values = {"loss": 1 / epoch, "accuracy": 0.5, "val_loss": 2 / epoch, "val_accuracy": 0.4}
    row = {"phase": phase, "epoch": str(epoch), "learning_rate": "0.1", "l2": "", "seconds": "1"}
    return {**row, **{name: str(value) for name, value in values.items()}, **changes}


def test_curves_of_a_solved_and_a_fitted_phase_are_drawn(tmp_path):
    log = [log_row("head", i, l2=str(10.0**-i), learning_rate="") for i in (1, 2, 3)]
    log += [log_row("finetune", i) for i in (1, 2)]
    draw_curves(log, tmp_path / "two.png")
    draw_curves(log[:3], tmp_path / "one.png")
    assert colours(tmp_path / "two.png") > 10
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.width > one.width
