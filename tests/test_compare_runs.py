"""compare-runs: the same images, exact tests, and what does not fit together."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import reseal

import tlkit
from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.reporting.paired import holm, mcnemar, mean_of, paired
from tlkit.tasks.metrics import wilson_interval


def call(*arguments):
    wide = {"COLUMNS": "300"}  # paths are long
    return CliRunner(env=wide).invoke(main, [str(argument) for argument in arguments])


def changed(run, folder, *, wrong=0, members=None):
    """Return a copy of a run in which the first answers are wrong, or other images were tested."""
    copy = shutil.copytree(run.folder, folder)
    with (copy / "predictions.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    for row in rows[:wrong]:
        other = next(name for name in run.labels if name != row[1])
        row[2:] = [other, *(f"{float(name == other):.6f}" for name in run.labels)]
    data = json.loads((copy / "data.json").read_text())
    if members:
        data["test"] = members(data["test"])
        rows = [[id_, *row[1:]] for (id_, *_), row in zip(data["test"], rows, strict=False)]
    (copy / "data.json").write_text(json.dumps(data))
    with (copy / "predictions.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])
    reseal(copy)
    return copy


def test_runs_are_compared_image_by_image(tiny_run, tmp_path):
    worse = changed(tiny_run, tmp_path / "worse", wrong=4)
    out = tmp_path / "out"
    result = call("compare-runs", tiny_run.folder, worse, "--json", "--out", out)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    test = tiny_run.metrics["test"]
    assert found["images"] == test["examples"]
    assert found["runs"][0]["value"] == test["accuracy"]
    assert found["runs"][0]["interval95"] == test["interval95"]
    (pair,) = found["pairs"]
    right = test["confusion"]
    assert sum(right[i][i] for i in range(3)) == test["examples"]  # so that four are lost
    assert (pair["only_first_right"], pair["only_second_right"]) == (4, 0)
    assert pair["p"] == pair["p_holm"] == pytest.approx(2 * 0.5**4)
    assert not pair["told_apart"]
    assert pair["difference"] == pytest.approx(4 / test["examples"])
    low, high = pair["interval95"]
    assert 0 <= low < pair["difference"] < high <= 1
    assert json.loads((out / "compare_runs.json").read_text()) == found
    page = (out / "compare_runs.html").read_text("utf-8")
    assert "<script" not in page
    assert page.count("<svg") == 2
    assert str(worse) in page
    shown = call("compare-runs", tiny_run.folder, worse)
    assert "not told" in shown.stdout


def test_only_images_that_all_runs_were_tested_on_count(tiny_run, tmp_path):
    def fewer(rows):
        return [["moved/" + rows[0][0], *rows[0][1:]], *rows[1:4]]

    other = changed(tiny_run, tmp_path / "other", members=fewer)
    found = tlkit.compare_runs([tiny_run, other], progress=False)
    assert found.images == 4  # the first under another name
    count = tiny_run.metrics["test"]["examples"]
    (note,) = found.notes
    assert f"{count - 4} of {count} test images are not in all test parts" in note


def test_what_does_not_fit_together_is_said(tiny_run, tmp_path):
    def says(text, *runs):
        result = call("compare-runs", *runs)
        assert result.exit_code == 2
        assert text in result.stderr

    run = tiny_run.folder
    says("needs two or more different runs", run)
    says("needs two or more different runs", run, run)
    says("is no folder", run, tmp_path / "none")
    others = changed(tiny_run, tmp_path / "a", members=lambda rows: [["x", "0" * 32, rows[0][2]]])
    says("no image is in the test parts of all", run, others)
    relabelled = changed(
        tiny_run,
        tmp_path / "b",
        members=lambda rows: [[*row[:2], "disc"] for row in rows],
    )
    says("has the label", run, relabelled)
    for name, text in (("unfinished", "is unfinished"), ("untested", "has no test part")):
        folder = shutil.copytree(run, tmp_path / name)
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "test": None}))
        reseal(folder)
        if name == "unfinished":
            (folder / "metrics.json").unlink()
        says(text, run, folder)
    folder = shutil.copytree(run, tmp_path / "old")
    for name in ("data.json", "digests.json"):
        (folder / name).unlink()
    says("made by an earlier version", run, folder)
    folder = shutil.copytree(run, tmp_path / "labels")
    labels = ["circle", *tiny_run.labels[1:]]
    task = json.loads((folder / "task.json").read_text())
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "task.json").write_text(json.dumps({**task, "outputs": labels}))
    reseal(folder)
    says("answers another question", run, folder)


def test_tasks_without_a_score_of_single_images_are_not_compared(tiny_run, tmp_path, monkeypatch):
    other = changed(tiny_run, tmp_path / "other")
    monkeypatch.setattr(type(tiny_run.task), "paired", "")
    with pytest.raises(SpecError, match="gives no score of single images"):
        tlkit.compare_runs([tiny_run, other], progress=False)


def test_mcnemar_is_the_binomial_test_of_those_that_differ():
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)
    assert mcnemar(7, 1) == mcnemar(1, 7)
    assert mcnemar(3, 3) == 1


def test_p_values_are_adjusted_step_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_errors_are_compared_by_the_bootstrap():
    random = np.random.default_rng(0)
    first = random.uniform(0.1, 1, 200)
    apart, near = paired([first, first + 0.3, first + 0.3 + random.normal(0, 0.1, 200)])[:2]
    assert apart.difference == pytest.approx(-0.3)
    assert apart.only_first is None
    assert apart.told_apart
    low, high = near.interval
    assert low < near.difference < high < 0
    (same,) = paired([first, first + random.normal(0, 0.1, 200)])
    assert not same.told_apart or abs(same.difference) > 0.01
    assert mean_of(np.array([1.0, 0, 1, 1]))[1] == tuple(wilson_interval(3, 4))
    (alone,) = paired([np.array([0.3]), np.array([0.7])])
    assert alone.p == 1
    assert alone.interval is None
