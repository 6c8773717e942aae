"""The same training on the JAX backend, in processes of its own: Keras chooses once, at import."""

import csv
import importlib.util
import json
import math
import os
import subprocess
import sys

import pytest

import tlkit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="the package jax is not installed"
)

# Six images divide all parts, so that each step is compiled for one shape.
OPTIONS = ("--regime", "medium", "--epochs", "2", "--batch-size", "6", "--set", "head.dropout=0")


def tlkit_with_jax(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tlkit", *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def trained(image_folder, tiny_weights, tmp_path_factory):
    """A run with a solved head and fine-tuning: its folder and metrics."""
    out = tmp_path_factory.mktemp("jax") / "run"
    tiny = ("backbone.name=MobileNet", "backbone.alpha=0.25", f"backbone.weights={tiny_weights}")
    settings = [part for setting in (*tiny, "image_size=32") for part in ("--set", setting)]
    done = tlkit_with_jax("train", image_folder, "--out", out, "--json", *settings, *OPTIONS)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def log_of(folder, phase):
    with (folder / "log.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["phase"] == phase]


def test_training_on_jax_comes_to_its_end(trained):
    out, metrics = trained
    assert json.loads((out / "env.json").read_text())["backend"] == "jax"
    assert [phase["name"] for phase in metrics["phases"]] == ["head", "finetune"]
    rows = log_of(out, "finetune")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row["val_loss"])) for row in rows)


def test_a_head_solved_on_jax_is_as_good_as_on_tensorflow(trained, tiny_run):
    got, expected = (log_of(folder, "head") for folder in (trained[0], tiny_run.folder))
    assert got[0]["l2"] == expected[0]["l2"]
    for name in ("loss", "val_loss"):
        assert float(got[0][name]) == pytest.approx(float(expected[0][name]), rel=1e-2)


def test_a_model_trained_on_jax_answers_the_same_on_tensorflow(trained):
    out, metrics = trained
    got = tlkit.open_run(out).evaluate(raw=True, progress=False)
    assert got["accuracy"] == metrics["test"]["accuracy"]
    assert got["loss"] == pytest.approx(metrics["test"]["loss"], abs=1e-3)


def test_export_on_jax_says_what_it_needs(trained, tmp_path):
    done = tlkit_with_jax("export", trained[0], "--out", tmp_path / "served")
    assert done.returncode == 2
    assert "needs the TensorFlow backend" in done.stderr
    assert "Received: jax" in done.stderr
    assert not list(tmp_path.iterdir())
