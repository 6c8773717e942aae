"""Ctrl-C and SIGTERM in a real process: the exit code, what is said, what is kept, going on."""

import csv
import signal
import time

import keras
import pytest
import yaml
from conftest import SMALL
from forked import Command, finished

import tlkit
from tlkit.data.readers.open import image_files

OPTIONS = {
    "backbone": SMALL["backbone"]["name"],
    "head.solver": "fit",
    "regime": "small",
    "epochs": 5000,
    "optimizer.patience": 0,
    "batch_size": 8,
}
PATIENCE = 120


def start(image_folder, out):
    settings = [part for key, value in OPTIONS.items() for part in ("--set", f"{key}={value}")]
    return Command("train", image_folder, "--out", out, *settings)


def epochs_logged(out):
    if not (out / "log.csv").exists():
        return []
    with (out / "log.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def stop(process, out, sign):
    """Send `sign` after some epochs; return exit code and what was said on standard error."""
    end = time.monotonic() + PATIENCE
    while len(epochs_logged(out)) < 3:
        assert process.wait(0) is None, process.stderr
        assert time.monotonic() < end, "not even three epochs"
        time.sleep(0.1)
    process.send_signal(sign)
    return process.wait(PATIENCE), process.stderr


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def started(image_folder, tmp_path_factory):
    """Two processes that train side by side, one for each signal, with their run folders."""
    folder = tmp_path_factory.mktemp("stopped")
    processes = {sign: start(image_folder, folder / sign.name) for sign in SIGNALS}
    yield {sign: (process, folder / sign.name) for sign, process in processes.items()}
    for process in processes.values():
        process.kill()


@pytest.fixture(scope="module", params=SIGNALS, ids=lambda sign: sign.name)
def stopped(request, started):
    """A process that was stopped in its epochs: exit code, standard error, run folder."""
    process, out = started[request.param]
    return *stop(process, out, request.param), out


def test_a_stopped_training_says_how_to_go_on(stopped):
    code, said, out = stopped
    assert code == 130
    assert f"tlkit train --resume {out}" in said
    assert "Traceback" not in said
    assert not (out / "metrics.json").exists()


def test_a_stopped_training_keeps_its_best_model(stopped, image_folder):
    _, _, out = stopped
    assert keras.models.load_model(out / "checkpoints" / "best.keras").output_shape == (None, 3)
    (row,) = tlkit.open_run(out).predict(image_files(image_folder)[0])
    assert row["error"] is None


@pytest.mark.parametrize("stopped", [signal.SIGINT], indirect=True, ids=lambda s: s.name)
def test_a_stopped_training_goes_on_to_its_end(stopped):
    _, _, out = stopped
    spec = yaml.safe_load((out / "spec.yaml").read_text())
    assert spec["epochs"] == 5000
    count = len(epochs_logged(out))
    (out / "spec.yaml").write_text(yaml.safe_dump({**spec, "epochs": count + 2}))
    done = finished("train", "--resume", out)
    assert done.wait() == 0, done.stderr
    # It went on: no epoch is missing, none is there twice.
    assert epochs_logged(out) == list(range(1, count + 3))
    run = tlkit.open_run(out)
    assert run.finished
    assert run.metrics["test"]["examples"] == 6
