"""The same training on the JAX backend, in processes of its own: Keras chooses once, at import."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="the package jax is not installed"
)

FITTED = ("--regime", "medium", "--epochs", "2", "--set", "head.dropout=0")


def tlkit_with_jax(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tlkit", *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


def train_with_jax(data, weights, out, *options):
    tiny = ("backbone.name=MobileNet", "backbone.alpha=0.25", f"backbone.weights={weights}")
    settings = [part for setting in (*tiny, "image_size=32") for part in ("--set", setting)]
    done = tlkit_with_jax("train", data, "--out", out, "--json", *settings, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def solved(pictures, tiny_weights, tmp_path_factory):
    """A run with a solved head: its folder and metrics."""
    out = tmp_path_factory.mktemp("jax") / "solved"
    return out, train_with_jax(pictures, tiny_weights, out, "--regime", "small")


def test_a_head_solved_on_jax_is_as_good_as_on_tensorflow(solved, tiny_run):
    out, metrics = solved
    assert json.loads((out / "env.json").read_text())["backend"] == "jax"
    for part in ("val", "test"):
        assert metrics[part]["accuracy"] == tiny_run.metrics[part]["accuracy"]
        assert metrics[part]["loss"] == pytest.approx(tiny_run.metrics[part]["loss"], abs=1e-2)


def test_a_model_trained_on_jax_answers_the_same_on_tensorflow(solved, pictures):
    import tlkit

    out, metrics = solved
    got = tlkit.open_run(out).evaluate(progress=False)
    assert got["accuracy"] == metrics["test"]["accuracy"]
    assert got["loss"] == pytest.approx(metrics["test"]["loss"], abs=1e-3)


def test_fine_tuning_on_jax(pictures, tiny_weights, tmp_path):
    metrics = train_with_jax(pictures, tiny_weights, tmp_path / "run", *FITTED)
    assert [phase["name"] for phase in metrics["phases"]] == ["head", "finetune"]
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if line.startswith("finetune,")]
    assert len(rows) == 2
    assert all(np.isfinite(float(row[2])) for row in rows)


def test_export_on_jax_says_what_it_needs(solved, tmp_path):
    done = tlkit_with_jax("export", solved[0], "--out", tmp_path / "served")
    assert done.returncode == 2
    assert "needs the TensorFlow backend" in done.stderr
    assert "Received: jax" in done.stderr
    assert not list(tmp_path.iterdir())
