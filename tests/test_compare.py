"""Backbones compared: the numbers of training, ranked by validation or folds, within a budget."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SHARED, needs_shared
from conftest import SMALL as QUICKEST
from forked import finished
from PIL import Image
from scipy.optimize import minimize

import tlkit
from tlkit.cli.main import main
from tlkit.cli.options import as_words
from tlkit.commands.compare.candidates import read_candidates, read_seconds
from tlkit.commands.compare.result import Comparison, Entry
from tlkit.errors import RunFolderError, SpecError
from tlkit.solver.logme import log_maximum_evidence

SMALL = "MobileNet:alpha=0.25,image_size=32"
WIDER = "MobileNet:alpha=0.5,image_size=32"


def evidence(x, y):
    """The log evidence per example, maximised over both precisions by brute force."""

    def negative(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(y)) / beta + x @ x.T / alpha
        inner = y @ np.linalg.solve(covariance, y)
        return 0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + inner)

    starts = ((0, 0), (3, 3), (-3, 3), (5, 0))
    return -min(minimize(negative, s, method="Nelder-Mead").fun for s in starts) / len(y)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (12, 20)])
def test_logme_is_the_maximum_of_the_evidence(n, d):
    random = np.random.default_rng(n)
    x = random.normal(size=(n, d))
    y = np.stack([x[:, 0] + random.normal(size=n), x @ random.normal(size=d)], axis=1)
    y[:, 1] += 0.5 * random.normal(size=n)
    expected = np.mean([evidence(x, column) for column in y.T])
    assert log_maximum_evidence(x, y) == pytest.approx(expected, abs=1e-3)


def test_logme_does_not_change_when_features_are_turned_and_scaled():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 6)), random.normal(size=(40, 2))
    y += x[:, :2]
    turn = np.linalg.qr(random.normal(size=(6, 6)))[0]
    assert log_maximum_evidence(7 * x @ turn, y) == pytest.approx(log_maximum_evidence(x, y))


def test_logme_prefers_features_that_tell_classes_apart():
    random = np.random.default_rng(0)
    classes = random.integers(0, 3, 90)
    y = np.eye(3)[classes]
    noise = random.normal(size=(90, 8))
    telling = noise + 3 * random.normal(size=(3, 8))[classes]
    assert log_maximum_evidence(telling, y) > log_maximum_evidence(noise, y) + 0.1


def test_backbones_are_read_with_their_arguments():
    read = read_candidates(["MobileNetV2,MobileNet:alpha=0.25,image_size=128,a/b.keras", "mod:fun"])
    assert [c.label for c in read] == [
        "MobileNetV2",
        "MobileNet:alpha=0.25,image_size=128",
        "a/b.keras",
        "mod:fun",
    ]
    spec = read[1].spec({"seed": 3})
    assert (spec.backbone.name, spec.backbone.alpha, spec.size, spec.seed) == (
        "MobileNet",
        0.25,
        128,
        3,
    )
    assert read[1].options == "--backbone MobileNet --set backbone.alpha=0.25 --set image_size=128"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name at least one"),
        ("MobileNetV2,MobileNetV2", "named once. Received twice: MobileNetV2"),
        ("MobileNet:alfa=0.5", r"unknown argument. Did you mean 'alpha'\? Allowed: image_size"),
    ],
)
def test_backbones_that_cannot_be_read_are_named(text, said):
    with pytest.raises(SpecError, match=said):
        read_candidates(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2m", 120), ("1.5h", 5400), (7, 7)])
def test_a_budget_is_a_time(text, seconds):
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["0", "soon", "-1m", "1d", "inf", "nan", None, True])
def test_a_budget_that_is_none_is_named(text):
    with pytest.raises(SpecError, match="--budget: a time above 0.*Received"):
        read_seconds(text)


def test_the_front_and_the_rank_follow_their_definitions():
    points = {"slow": (0.9, 9.0), "quick": (0.7, 1.0), "worse": (0.6, 5.0), "equal": (0.9, 12.0)}
    entries = [
        Entry(name, "", probe=value, score=(value,), latency=ms)
        for name, (value, ms) in points.items()
    ]
    found = Comparison(
        "d", "accuracy", 100, 600, [*entries, Entry("x", "", left_out="why")], None, [], 9, 1
    )
    assert {e.label for e in found.entries if e.front} == {"slow", "quick"}
    assert [e.label for e in found.entries] == ["slow", "equal", "quick", "worse", "x"]
    assert found.standard_error == pytest.approx(0.03)
    assert [e.label for e in found.equals] == ["equal"]


def test_over_folds_a_gain_of_fine_tuning_counts_with_its_own_error():
    tuned = Entry("tuned", "", probe=0.8, folded=0.9, finetuned=0.85, score=(0.95,), latency=1.0)
    other = Entry("other", "", probe=0.99, folded=0.92, score=(0.92,), latency=2.0)
    found = Comparison("d", "accuracy", 100, 600, [other, tuned], None, [], 9, 1)
    assert found.best is tuned
    assert tuned.value == pytest.approx(0.95)
    assert found.standard_error == pytest.approx(np.sqrt(0.95 * 0.05 / 700 + 0.05 / 100))
    assert found.equals == []
    tuned.finetuned = 0.95
    assert tuned.value == 1
    assert other.value == 0.92


@pytest.fixture(scope="module")
def weights():
    """Settings that give every backbone random weights, since there are no files in a test."""
    return {"backbone": {"weights": "none"}, "seed": 1}


@pytest.fixture(scope="module")
def compared(image_folder, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "new"
    fields = {**weights, "epochs": 2, "regime": "medium", "progress": False}
    return tlkit.compare(image_folder, [SMALL, WIDER], budget="5m", out=out, **fields), out


def test_each_is_probed_and_the_better_half_fine_tuned(compared):
    found, _ = compared
    assert [e.left_out for e in found.entries] == ["", ""]
    assert [e.finetuned is None for e in found.entries].count(False) == 1
    assert all(e.latency > 0 and np.isfinite(e.logme) for e in found.entries)
    small, wide = sorted(found.entries, key=lambda e: e.parameters)
    assert small.label == SMALL
    assert small.megabytes < wide.megabytes
    assert small.parameters * 4 / 1e6 < small.megabytes < small.parameters * 4 / 1e6 + 1
    assert found.test["examples"] > 0


def test_the_files_say_what_was_found(compared):
    found, out = compared
    assert json.loads((out / "compare.json").read_text()) == json.loads(json.dumps(found.to_json()))
    with (out / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["backbone"] for row in rows] == [e.label for e in found.entries]
    assert float(rows[0]["probe_on_validation"]) == found.best.probe
    assert float(rows[0]["probe_by_folds"]) == found.best.folded
    assert float(rows[0]["ranked"]) == found.best.value
    assert [row["tuned_on_validation"] for row in rows].count("") == 1
    assert {row["probe"] for row in found.to_json()["backbones"]} == {
        float(row["probe_on_validation"]) for row in rows
    }
    with Image.open(out / "pareto.png") as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_the_numbers_are_those_of_training(image_folder, tmp_path, monkeypatch):
    """One backbone compared and trained: the same head, the same fine-tuning."""
    monkeypatch.setattr("tlkit.planning.rules.RANKED_BY_FOLDS", 0)
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    for label in ("square", "stripes"):  # for weights to be told from none
        for file in sorted((data / label).iterdir())[5:]:
            file.unlink()
    backbone = QUICKEST["backbone"]["name"]
    fields = {"epochs": 2, "progress": False, "balance": "weights"}
    found = tlkit.compare(data, backbone, **fields)
    assert found.best.folded is None
    assert found.best.value == found.best.finetuned == found.best.score[0]
    small = tlkit.train(
        data,
        backbone=backbone,
        regime="small",
        out=tmp_path / "s",
        balance="weights",
        progress=False,
    )
    medium = tlkit.train(data, backbone=backbone, regime="medium", out=tmp_path / "m", **fields)
    assert found.best.probe == small.metrics["val"]["accuracy"]
    assert found.best.epochs == 2
    assert found.best.finetuned == medium.metrics["val"]["accuracy"]
    assert -found.best.score[1] == pytest.approx(medium.metrics["val"]["loss"], rel=1e-3)
    assert found.test["accuracy"] == medium.metrics["test"]["accuracy"]
    assert found.ranked_on == medium.metrics["examples"]["val"]
    assert found.images == f"{found.ranked_on} validation images"


def test_few_validation_images_rank_by_folds(compared, tiny_run):
    found, _ = compared
    parts = tiny_run.metrics["examples"]
    assert found.ranked_on == parts["train"] + parts["val"]
    (tuned,) = [entry for entry in found.entries if entry.finetuned is not None]
    assert 0 <= tuned.folded <= 1
    gained = tuned.folded + tuned.finetuned - tuned.probe
    assert tuned.score[0] == pytest.approx(gained, abs=1e-5)
    assert tuned.value == pytest.approx(min(1, gained), abs=1e-5)
    assert found.images == f"{found.ranked_on} images, by folds"


def test_what_does_not_fit_in_the_budget_is_left_out_and_said(image_folder, weights):
    command = ["compare", str(image_folder), "--backbones", SMALL, "--budget", "0.01s"]
    done = CliRunner().invoke(main, [*command, "--set", "backbone.weights=none"])
    assert done.exit_code == 2
    assert "none could be measured: the budget was spent" in done.stderr


def test_without_time_nothing_is_fine_tuned_and_that_is_said(image_folder, weights, monkeypatch):
    monkeypatch.setattr("tlkit.commands.compare.compare.START_SECONDS", 1e6)
    found = tlkit.compare(image_folder, SMALL, progress=False, **weights, regime="medium")
    assert found.best.finetuned is None
    assert found.notes == [f"{SMALL} was not fine-tuned: the budget left no time for it"]


def test_the_command_prints_a_table_and_what_to_type_next(image_folder):
    command = ["compare", str(image_folder), "--backbones", SMALL, "--regime", "small"]
    done = CliRunner().invoke(main, [*command, "--set", "backbone.weights=none"])
    assert done.exit_code == 0, done.stderr
    assert "LogME" in done.stdout
    assert "best      MobileNet:alpha=0.25,image_size=32: accuracy" in done.stdout
    typed = f"tlkit train {image_folder} --regime small --set backbone.weights=none"
    last = f"{typed} --backbone MobileNet --set backbone.alpha=0.25 --set image_size=32"
    assert " ".join(done.stdout.split()).endswith(last)
    said = " ".join(done.stdout.split())
    probe = re.search(r"accuracy by folds (\S+), on the validation part (\S+), LogME", said)
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["MobileNet"])
    assert row.split()[1] == probe[1]
    assert "probe, tuned: accuracy by folds of the training and the validation part" in said


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        (("a b/", None, (), {}), "'a b/'"),
        (("d", Path("my.yaml"), ("head.dropout=0.5",), {}), "d --recipe my.yaml --set head.dropou"),
        (("d", None, ("table.separator= ",), {}), "d --set 'table.separator= '"),
        (("d", None, (), {"seed": 0, "strict": True, "epochs": None}), "d --seed 0 --strict"),
        (
            ("d.csv", None, (), {"backbone__name": "VGG16", "val": "v"}),
            "d.csv --backbone VGG16 --v",
        ),
    ],
)
def test_what_to_type_next_is_what_was_typed(given, typed):
    assert as_words(*given).startswith(typed)


def test_options_of_a_candidate_can_be_typed():
    (one,) = read_candidates("my net.keras:image_size=64")
    assert one.options == "--backbone 'my net.keras' --set image_size=64"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backbones", "MobilNet"], "Did you mean 'MobileNet'?"),
        (["--backbones", "ResNet50:alpha=0.5"], "backbone.alpha: ResNet50 has none"),
        (["--backbones", SMALL, "--budget", "soon"], "--budget: a time above 0"),
        (["--backbones", SMALL, "--set", "budget=5m"], "with compare: --budget, the time for all"),
        (["--backbones", SMALL, "--set", "head.hidden=[8]"], "compare solves linear heads"),
    ],
)
def test_wrong_input_is_one_message(image_folder, more, said):
    done = CliRunner().invoke(main, ["compare", str(image_folder), *more])
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_folder_in_use_is_refused(image_folder, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(RunFolderError, match="is not empty"):
        tlkit.compare(image_folder, SMALL, out=tmp_path, progress=False)


@pytest.mark.full
@needs_shared("data/flowers12", "keras_home/models")
def test_pretrained_weights_win_over_random_ones(tmp_path):
    """Real weights, on a few real images of three flowers."""
    for label in sorted((SHARED / "data/flowers12/train").iterdir())[:3]:
        (tmp_path / "data" / label.name).mkdir(parents=True)
        for file in sorted(label.iterdir())[:12]:
            shutil.copy(file, tmp_path / "data" / label.name)
    real = "MobileNet:alpha=0.25,image_size=128"
    asked = ["--backbones", f"{real},weights=none,{real}", "--regime", "small", "--json"]
    done = finished("compare", tmp_path / "data", *asked)
    assert done.wait() == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["best"] == real
    assert found["backbones"][0]["logme"] > found["backbones"][1]["logme"]
    assert found["test"]["accuracy"] > 0.6
