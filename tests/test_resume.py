"""Runs that a full disk or a signal ends early: one message, then a resumption, equal numbers."""

import json
import shutil
import signal
import time

import pytest
from conftest import SMALL
from forked import Command, finished

import tlkit
from tlkit.data.readers.open import image_files

SETTINGS = (
    "backbone.name=MobileNet",
    "backbone.alpha=0.25",
    "backbone.weights=none",
    "image_size=32",
    "regime=small",
    "head.solver=fit",
    "epochs=3",
    "deterministic=true",
)
PATIENCE = 300


def command(image_folder, out, *more):
    settings = [part for text in (*SETTINGS, *more) for part in ("--set", text)]
    return ["train", image_folder, "--out", out, *settings]


def run(words, cache, monkeypatch, limit=None):
    monkeypatch.setenv("TLKIT_CACHE", str(cache))
    return finished(*words, limit=limit)


def outcome(out):
    metrics = json.loads((out / "metrics.json").read_text())
    return metrics["val"], metrics["test"], (out / "predictions.csv").read_text()


@pytest.fixture(scope="module")
def whole(image_folder, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        done = run(command(image_folder, folder / "run"), folder / "cache", patch)
    assert done.wait() == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize("full", [pytest.param("cache", marks=pytest.mark.full), "model"])
def test_a_full_disk_is_told_in_one_message_and_the_run_goes_on(
    full, whole, image_folder, tmp_path, monkeypatch
):
    out, cache = tmp_path / "run", tmp_path / "cache"
    # Texts are below 16 KiB, kept features of these images above; a model takes 900 KiB.
    limit = {"cache": 16 * 2**10, "model": 300 * 2**10}[full]
    failed = run(command(image_folder, out), cache, monkeypatch, limit)
    assert failed.wait() == 2, failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert "cannot be written" in last
    assert "File too large" in last
    assert f"tlkit train --resume {out}" in last
    assert "Traceback" not in failed.stderr
    resumed = run(["train", "--resume", out], cache, monkeypatch)
    assert resumed.wait() == 0, resumed.stderr
    assert outcome(out) == outcome(whole)


@pytest.mark.parametrize(
    "reached",
    ["spec.yaml", pytest.param("scan.json", marks=pytest.mark.full)],
    ids=["in scan", "in features"],
)
def test_sigterm_before_the_first_epoch_leaves_a_run_to_go_on_with(
    reached, whole, image_folder, tmp_path, monkeypatch
):
    out, cache = tmp_path / "run", tmp_path / "cache"
    monkeypatch.setenv("TLKIT_CACHE", str(cache))
    process = Command(*command(image_folder, out))
    end = time.monotonic() + PATIENCE
    while not (out / reached).exists():
        assert process.wait(0) is None, process.stderr
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 130, process.stderr
    assert f"tlkit train --resume {out}" in process.stderr
    resumed = run(["train", "--resume", out], cache, monkeypatch)
    assert resumed.wait() == 0, resumed.stderr
    assert outcome(out) == outcome(whole)


def test_the_seed_decides(whole, image_folder, tmp_path, monkeypatch):
    out, cache = tmp_path / "run", tmp_path / "cache"
    assert run(command(image_folder, out, "seed=1"), cache, monkeypatch).wait() == 0
    assert outcome(out)[2] != outcome(whole)[2]
    one, other = (json.loads((folder / "env.json").read_text()) for folder in (out, whole))
    assert one["weights"] != other["weights"]
    assert one["data"] == other["data"]


def test_env_json_says_what_a_run_started_from(whole, image_folder, tmp_path, monkeypatch):
    env = json.loads((whole / "env.json").read_text())
    assert env["hardware"]["cores"] >= 1
    assert env["hardware"]["memory"] > 2**30
    assert env["seed"] == 0
    assert env["deterministic"] is True
    assert set(env["git"] or {"commit": "", "dirty": False}) == {"commit", "dirty"}
    changed = tmp_path / "changed"
    shutil.copytree(image_folder, changed)
    image_files(changed)[0].unlink()
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    fields = {**SMALL, "regime": "small", "out": tmp_path / "run", "progress": False}
    other = json.loads((tlkit.train(changed, **fields).folder / "env.json").read_text())
    assert other["data"] != env["data"]
