"""The benchmarks run and say what they promise; nothing that they time is held against a limit."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, write_images

from tlkit.data.feed.dataset import load_dataset
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.spec.read import make_spec

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
IN_ALL = ("figures.py", "images.py", "rss.py")
"""Imported by the others; no scripts."""

SCRIPTS = sorted(file for file in FOLDER.glob("*.py") if file.name not in IN_ALL)
QUICK = ["input_pipeline", "prefix_engines"]
full = pytest.mark.full
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="the package jax is not installed"
)


def run(name: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark as a module; what it sets for its own process is put back."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("KERAS_HOME", os.environ.get("KERAS_HOME", ""))
    return importlib.import_module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_index_and_the_docstring_tell_how_to_run_it(script):
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert f"python benchmarks/{script.name}" in text
    assert " minutes" in text or " s" in text
    assert f"`{script.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_shows_what_is_compared(script):
    first = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))).splitlines()[0]
    assert first in run(script.stem, "--help").stdout


@pytest.mark.parametrize(
    "name",
    [
        QUICK[0],
        *(pytest.param(n, marks=full) for n in QUICK[1:]),
        pytest.param("gpu_step", marks=[needs_jax, full]),
    ],
)
def test_a_smoke_run_gives_ratios(name, tmp_path):
    said = run(name, "--smoke", "--json", tmp_path / "found.json").stdout
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["benchmark"] == name
    assert found["machine"]["cores"] >= 1
    assert found["rows"]
    assert found["ratios"]
    for ratio, value in found["ratios"].items():
        assert math.isfinite(value)
        assert value > 0
        assert f"ratio   {ratio}: " in said


def test_a_ratio_is_the_guides_seconds_by_tlkits_median(load):
    times = {"cold": (10.0, 20.0, 60.0), "warm": (5.0, 4.0, 6.0), "guide": (200.0,)}
    rights = {"cold": (0.9, 0.8, 0.7), "warm": (0.9, 0.8, 0.7), "guide": (0.85,)}
    rows = [
        {"regime": "small", "side": side, "seed": seed, "seconds": s, "accuracy": a}
        for side in times
        for seed, (s, a) in enumerate(zip(times[side], rights[side], strict=True))
    ]
    ratios, accuracies = load("guide").summarise(rows, "small")
    assert ratios == {"small, guide / tlkit cold": 10, "small, guide / tlkit warm": 40}
    assert accuracies["small, tlkit less guide, points"] == pytest.approx(-5)
    assert accuracies["small, the same over the seeds that both ran"] == pytest.approx(5)


def test_the_guide_gets_tlkits_own_split(load, image_folder, tmp_path):
    prepared = load_dataset(make_spec({"data": str(image_folder)}), {}, Progress(quiet=True))
    RunFolder(tmp_path).write_json("scan.json", prepared.scan_json())
    folder = load("guide").link_parts(image_folder, tmp_path, tmp_path / "parts")
    splits = prepared.split.ids()
    for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        assert sorted(p.name for p in (folder / name).iterdir()) == sorted(CLASSES)
        files = {p.relative_to(folder / name).as_posix(): p for p in (folder / name).glob("*/*")}
        assert set(files) == set(splits[part])
        for id_, file in files.items():
            assert file.read_bytes() == (image_folder / id_).read_bytes()


@pytest.mark.full
def test_the_guide_reports_both_of_its_stages(tmp_path):
    for seed, part in enumerate(("train", "validation", "test")):
        write_images(tmp_path / part, count=4, seed=seed)
    done = run(
        *("keras_guide", tmp_path, "--backbone", "MobileNet", "--alpha", "0.25"),
        *("--weights", "none", "--image-size", "32", "--epochs", "1", "--finetune-epochs", "1"),
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["accuracy"]) == {"frozen", "finetuned"}
    seconds = said["seconds"]
    assert 0 < seconds["to_first_epoch"] < seconds["to_frozen_tested"]
    assert seconds["to_frozen_tested"] < seconds["to_finetuned_tested"]


@pytest.mark.parametrize("batchnorm", ["as-is", "held"])
def test_batchnorm_is_held_where_the_guide_is_done_right(load, batchnorm, tmp_path, monkeypatch):
    guide = load("keras_guide")
    arguments = f"x --backbone MobileNet --alpha 0.25 --weights none --batchnorm {batchnorm}"
    monkeypatch.setattr(sys, "argv", ["keras_guide", *arguments.split(), "--image-size", "32"])
    options = guide.read_options()
    model, base = guide.build(options, classes=3)
    guide.unfreeze(base, options.batchnorm)
    model.compile("sgd", "mse")
    before = base.get_layer("conv1_bn").moving_mean.numpy()
    random = np.random.default_rng(0)
    model.fit(random.uniform(0, 255, (4, 32, 32, 3)), np.zeros((4, 3)), verbose=0)
    held = np.array_equal(base.get_layer("conv1_bn").moving_mean.numpy(), before)
    assert held == (batchnorm == "held")
    assert base.get_layer("conv1").trainable


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, so Linux")
def test_the_peak_holds_a_process_and_its_children(load):
    hold = "held = b'x' * (80 << 20); import time; time.sleep(0.4)"
    parent = f"{hold}\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {hold!r}])"
    peak, seconds = load("rss").peak_of([sys.executable, "-c", parent])
    assert 160 << 20 < peak < 240 << 20
    assert seconds > 0.8


def test_a_failing_run_ends_the_benchmark_with_its_message(load):
    with pytest.raises(SystemExit, match=r"(?s)--nonsense.*no such option"):
        load("figures").run_python("-m", "tlkit", "train", "--nonsense")


def test_cached_epoch_needs_an_epoch_to_count():
    assert "at least 2 are needed" in run("cached_epoch", "--epochs", "1", code=2).stderr
