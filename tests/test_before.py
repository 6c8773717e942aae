"""A run, a stopped run and an export of the version before: they open, answer alike and go on.

`before/runs.zip` was written by tlkit 0.1.0 of 25 November 2026: a net of three convolutions on
generated images, fine-tuned for 8 epochs, and once more, stopped in the sixth.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import reseal

import tlkit
from tlkit.cli.main import main

ARCHIVE = Path(__file__).parent / "before" / "runs.zip"


@pytest.fixture
def before(tmp_path, monkeypatch):
    """The archive, unpacked as the working directory; its runs know where their data is now."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(ARCHIVE) as file:
        file.extractall()
    for run in ("run", "stopped"):
        spec = Path(run, "spec.yaml")
        spec.write_text(spec.read_text().replace("/srv/before", str(tmp_path)))
        reseal(Path(run))


def call(*arguments):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("model", ["run", "served"])
def test_both_answer_as_they_did(before, model):
    expected = json.loads(Path("answers.json").read_text())
    found = json.loads(call("predict", model, "shapes", "--json"))
    assert len(found) == len(expected) == 21
    for row in found:
        own = list(row["probabilities"].values())
        np.testing.assert_allclose(own, expected[row["path"]], atol=2e-6)


def test_a_run_is_measured_exported_and_finished(before):
    metrics = tlkit.open_run("run").metrics
    found = json.loads(call("evaluate", "run", "--json"))
    assert found["accuracy"] == metrics["test"]["accuracy"]
    assert found["loss"] == pytest.approx(metrics["test"]["loss"], abs=1e-6)
    assert "served anew" in call("export", "run", "--out", "served anew")
    assert "is finished" in call("train", "--resume", "run")


def test_a_stopped_run_goes_on_to_the_end_of_the_one_that_was_not(before):
    call("train", "--resume", "stopped")
    whole, resumed = (tlkit.open_run(name) for name in ("run", "stopped"))
    assert [p["name"] for p in resumed.metrics["phases"]] == [
        p["name"] for p in whole.metrics["phases"]
    ]
    for part in ("val", "test"):
        loss = whole.metrics[part]["loss"]
        assert resumed.metrics[part]["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-6)
