"""Training processes killed at random moments: each resumption ends as if nothing had happened.

`--kills N` asks for N kills in all (4 unless told, 20 in a full run, half of them of runs whose
features are streamed); the moments are drawn from a fixed seed.
"""

import csv
import json
import random
import signal
import time
from functools import partial

import keras
import pytest
import yaml
from conftest import FULL, SHARED, SMALL, shared_env
from forked import Command, finished
from PIL import Image
from test_localisation import write_boxes

from tlkit.errors import RunFolderError
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import read_state

KINDS = {
    "kept": ("augment=none", f"epochs={12 if FULL else 6}"),
    "streamed": ("augment=light", "epochs=5"),
}
PER_CLASS = 12
TIMES = {"seconds", "images_per_second", "estimate"}
"""Keys of `metrics.json` that differ from run to run."""


@pytest.fixture(scope="module")
def data(image_folder, tmp_path_factory):
    """Data and backbone: in full runs a few real flowers as class folders, if they are there.

    Else generated images and the small network, whose steps are so quick that a process is killed
    in all that is around them more often.
    """
    flowers = SHARED / "data" / "flowers12" / "train"
    if not FULL or not flowers.is_dir():
        return image_folder, [f"backbone={SMALL['backbone']['name']}"]
    folder = tmp_path_factory.mktemp("data") / "flowers"
    for label in sorted(path for path in flowers.iterdir() if path.is_dir())[:3]:
        (folder / label.name).mkdir(parents=True)
        for file in sorted(label.iterdir())[:PER_CLASS]:
            (folder / label.name / file.name).write_bytes(file.read_bytes())
    return folder, ["backbone={name: MobileNet, alpha: 0.25}", "image_size=128"]


def command(data, kind, out):
    folder, backbone = data
    settings = (
        *backbone,
        "regime=medium",
        "optimizer.patience=0",
        "batch_size=8",
        "head.solver=fit",
        "deterministic=true",
        *KINDS[kind],
    )
    return ["train", folder, "--out", out, *(x for s in settings for x in ("--set", s))]


def going_on(begin, out):
    """Return the command that goes on with a run, or begins it if nothing is there yet."""
    return ["train", "--resume", out] if out.exists() else begin(out)


def environment(tmp_path):
    return shared_env(TLKIT_CACHE=str(tmp_path / "cache"), CUDA_VISIBLE_DEVICES="")


def timeless(value):
    """Return a JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def outcome(out):
    """Return all numbers of a finished run, times aside."""
    with (out / "log.csv").open(newline="") as file:
        rows = [timeless(row) for row in csv.DictReader(file)]
    metrics = timeless(json.loads((out / "metrics.json").read_text()))
    return metrics, rows, (out / "predictions.csv").read_text()


def assert_readable(out):
    """Open every file that a killed process left."""
    for path in out.rglob("*"):
        if path.name.startswith(".draft-") or not path.is_file():
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())["backbone"]
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                assert all(
                    None not in row and None not in row.values() for row in csv.DictReader(file)
                )
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".keras":
            keras.models.load_model(path, compile=False)
        elif path.suffix == ".npz":
            read_state(RunFolder(out))


def assert_killed_runs_end_alike(begin, kills, moments, tmp_path):
    """Kill runs so often at moments drawn, and compare what they end with.

    Args:
        begin: returns the command of a run in a folder.
    """
    env = environment(tmp_path)
    whole = tmp_path / "whole"
    start = time.monotonic()
    assert finished(*begin(whole), env=env).wait() == 0
    life = time.monotonic() - start
    expected, done, runs = outcome(whole), 0, 0
    while done < kills:
        runs += 1
        assert runs <= 3 * kills, "the runs end before they are killed"
        out = tmp_path / f"killed{runs}"
        env = {**env, "TLKIT_CACHE": str(tmp_path / f"cache{runs}")}
        for _ in range(min(5, kills - done)):
            # What goes on has less before it.
            share = 0.7 if out.exists() else 1.0
            start = time.monotonic()
            process = Command(*going_on(begin, out), env=env)
            if process.wait(moments.uniform(0.1, 1.0) * life * share) is None:
                process.kill()
            took = time.monotonic() - start
            if out.exists():
                assert_readable(out)
            if process.wait() == 0:
                life = min(life, took / share)  # the machine has become quicker
                break
            assert process.wait() == -signal.SIGKILL
            done += 1
        assert finished(*going_on(begin, out), env=env).wait() == 0
        assert outcome(out) == expected
        assert not list(out.rglob(".draft-*"))


@pytest.mark.parametrize("kind", ["kept", pytest.param("streamed", marks=pytest.mark.full)])
def test_killed_runs_end_as_if_nothing_had_happened(kind, data, tmp_path, request):
    kills = max(1, request.config.getoption("--kills") // (len(KINDS) if FULL else 1))
    moments = random.Random(f"{kind} 0")
    assert_killed_runs_end_alike(partial(command, data, kind), kills, moments, tmp_path)


@pytest.mark.full
def test_a_killed_run_on_boxes_ends_as_if_nothing_had_happened(net, tmp_path, request):
    table = write_boxes(tmp_path / "boxes", 24)
    settings = [f"backbone={net}", "engine=keras", "batch_size=8", "deterministic=true"]
    settings += ["regime=medium", "epochs=3", "optimizer.patience=0"]

    def begin(out):
        return ["train", table, "--out", out, *(x for s in settings for x in ("--set", s))]

    kills = max(1, request.config.getoption("--kills") // 4)
    assert_killed_runs_end_alike(begin, kills, random.Random("boxes 0"), tmp_path)


def test_a_damaged_state_is_told(tmp_path):
    folder = RunFolder(tmp_path)
    folder.state.parent.mkdir()
    folder.state.write_bytes(b"half a fi")
    with pytest.raises(RunFolderError, match=r"state\.npz is missing or unreadable"):
        read_state(folder)
