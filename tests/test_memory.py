"""Out of memory: smaller batches instead of an end, and a message where nothing smaller is left."""

import errno
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import SMALL, TINY, write_images

import tlkit
from tlkit.cli.main import main
from tlkit.commands.estimate import memory_warning
from tlkit.compute import engines
from tlkit.compute.memory import free_bytes, halving, is_out_of_memory
from tlkit.errors import OutOfMemoryError, RunFolderError
from tlkit.planning import rules
from tlkit.training.callbacks import WholeEpochs

FIELDS = {**SMALL, "freeze": "last=2", "epochs": 2, "batch_size": 8, "deterministic": True}
LAST = f"--set=backbone={json.dumps(TINY['backbone'])}"


def batches_of(run):
    return json.loads((run.folder / "batches.json").read_text())


class Named(Exception):
    """Stands for a class of a library that is not installed everywhere."""


def caused(error):
    outer = ValueError("something else")
    outer.__cause__ = error
    return outer


def tensorflow_error(kind, text):
    return kind(None, None, text)


@pytest.mark.parametrize(
    "error",
    [
        tensorflow_error(tf.errors.ResourceExhaustedError, "OOM when allocating tensor"),
        tensorflow_error(tf.errors.UnknownError, "ResourceExhaustedError: in the pipeline"),
        tensorflow_error(tf.errors.InternalError, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        tensorflow_error(
            tf.errors.AbortedError, "Status: 1, message: could not create a primitive, in file x"
        ),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("float32")),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
        RuntimeError("std::bad_alloc"),
        Named("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for 2"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        caused(MemoryError()),
    ],
    ids=str,
)
def test_errors_that_mean_memory(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        tensorflow_error(tf.errors.ResourceExhaustedError, "x.h5; No space left on device"),
        tensorflow_error(tf.errors.ResourceExhaustedError, "x.png; Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("data out of memory/: is empty"),
        KeyError("bad_alloc"),
        OutOfMemoryError("told already: std::bad_alloc"),
        None,
    ],
    ids=str,
)
def test_errors_that_mean_something_else(error):
    assert not is_out_of_memory(error)


def test_a_call_is_repeated_with_half_the_size():
    asked, said = [], []

    def call(size):
        asked.append(size)
        if size > 5:
            raise MemoryError
        return size

    assert halving(call, 23, "features", said.append) == 5
    assert asked == [23, 11, 5]
    assert said[0] == "features: out of memory with 23 images at a time: goes on with 11"
    with pytest.raises(OutOfMemoryError, match="features: out of memory with 1 image at a time"):
        halving(lambda size: call(9), 2, "features", said.append)
    with pytest.raises(ZeroDivisionError):
        halving(lambda size: 1 / 0, 2, "features", said.append)


MEMINFO = "MemTotal: 9 kB\nMemAvailable: 2000 kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc/meminfo": MEMINFO}, 2000 * 1024),
        ({"proc/meminfo": "rubbish\nMemAvailable: many kB\n"}, None),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "1000000\n",
                "sys/fs/cgroup/a/memory.current": "700000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 50000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "1\n",
            },
            350_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/job\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "500000",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "600000",
            },
            0,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/of/the/host\n",  # a container sees its own as the root
                "sys/fs/cgroup/memory.max": "9000",
                "sys/fs/cgroup/memory.current": "1000",
            },
            8000,
        ),
    ],
    ids=["nothing", "available", "rubbish", "version 2", "version 1", "container"],
)
def test_what_is_free_is_the_least_that_is_told(tmp_path, files, free):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_bytes(tmp_path) == free


def test_a_plan_that_does_not_fit_is_told_with_what_to_type():
    made = {
        "phases": [
            {"name": "head", "memory": 2**30, "memory_per_image": 0},
            {"name": "finetune", "memory": 9 * 2**30, "memory_per_image": 2**28},
        ]
    }
    assert memory_warning(made, 32, 10 * 2**30) is None
    assert memory_warning(made, 32, None) is None
    said = memory_warning(made, 32, 4 * 2**30)
    assert said == (
        "finetune: about 9.0 GiB by a rule for batches of 32, there are 4.0: it may not fit. "
        "Smaller: --batch-size 8, a smaller --image-size or backbone"
    )
    assert "--batch-size" not in memory_warning(made, 32, 2**29)


@pytest.mark.parametrize(
    ("phase", "optimizer", "rate"),
    [
        ("finetune", "sgd", 0.5),
        ("finetune-2", "sgd", 0.5),
        ("finetune", "adam", 0.5**0.5),
        ("head", "adam", 1.0),
        ("scratch", "sgd", 1.0),
    ],
)
def test_rates_follow_the_batch_by_the_rule(phase, optimizer, rate):
    assert rules.rescaled_rate(0.3, phase, optimizer, 64, 32) == pytest.approx(0.3 * rate)
    assert rules.rescaled_rate(0.3, phase, optimizer, 7, 7) == 0.3


@pytest.fixture
def exhausted(monkeypatch):
    """Training steps of the phase, by number, in which memory runs out: a set to fill."""
    numbers, done = set(), []
    ended = WholeEpochs._ended

    def failing(self, function):
        inner = ended(self, function)
        if function is not self.model.train_function:
            return inner

        def call(*arguments):
            done.append(len(done))
            if done[-1] in numbers or "all" in numbers:
                raise tensorflow_error(tf.errors.ResourceExhaustedError, "OOM when allocating")
            return inner(*arguments)

        return call

    monkeypatch.setattr(WholeEpochs, "_ended", failing)
    return numbers


def test_the_epoch_is_begun_again_with_half_the_batch(image_folder, tmp_path, exhausted, capsys):
    exhausted.add(1)  # 24 training images: 3 steps an epoch of 8
    run = tlkit.train(image_folder, out=tmp_path / "run", **FIELDS | TINY)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "scratch out of memory with 8 images of 32 px a step: goes on with 4, from the start of "
        "epoch 1"
    ) in said
    row = run.metrics["phases"][-1]
    assert row["batch_size"] == 4
    assert run.spec.batch_size == 8  # as asked for
    (change,) = batches_of(run)
    assert change["batch_size"] == 4
    assert (change["phase"], change["epoch"], change["reason"]) == ("scratch", 1, "out of memory")
    assert [r["epoch"] for r in run.files.read_log()] == ["1", "2"]


def test_halved_before_its_first_epoch_it_is_the_run_that_asked_for_the_half(
    image_folder, tmp_path, exhausted, tiny_weights
):
    """The state is that of the start, and order, schedule and rate are those of the smaller."""
    fields = {**FIELDS, "progress": False, "optimizer": {"name": "sgd", "schedule": "cosine"}}
    asked = tlkit.train(image_folder, out=tmp_path / "asked", **{**fields, "batch_size": 4})
    exhausted.add(6 * 2 + 2)
    halved = tlkit.train(image_folder, out=tmp_path / "halved", **fields)
    assert halved.metrics["phases"][-1]["batch_size"] == 4
    for name in ("val", "test"):
        assert halved.metrics[name] == asked.metrics[name]
    rates = [[row["learning_rate"] for row in run.files.read_log()] for run in (asked, halved)]
    assert rates[0] == rates[1]
    change = batches_of(halved)[0]
    assert change["learning_rate"] == asked.plan["phases"][-1]["learning_rate"]


@pytest.mark.full
def test_in_a_later_epoch_the_state_of_the_last_ones_end_goes_on(image_folder, tmp_path, exhausted):
    exhausted |= {4, 7}  # in epoch 2, and again with half
    run = tlkit.train(image_folder, out=tmp_path / "run", progress=False, **{**FIELDS, "epochs": 3})
    assert [c["batch_size"] for c in batches_of(run)] == [4, 2]
    assert [c["epoch"] for c in batches_of(run)] == [2, 2]
    assert [r["epoch"] for r in run.files.read_log()] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param({"name": "adam", "ema": 0.5}, marks=pytest.mark.full),
        {"name": "sgd", "block_decay": 0.5, "schedule": "plateau"},
    ],
    ids=str,
)
def test_every_optimizer_goes_on(image_folder, tmp_path, exhausted, optimizer):
    exhausted.add(4)
    run = tlkit.train(
        image_folder, out=tmp_path / "run", progress=False, **FIELDS, optimizer=optimizer
    )
    assert run.metrics["phases"][-1]["batch_size"] == 4


def test_plan_says_as_train_does_that_memory_may_not_hold_it(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("tlkit.commands.plan.free_bytes", lambda: 2**20)
    monkeypatch.setattr("tlkit.commands.plan.resident_bytes", lambda: 0)
    fields = {**FIELDS, "epochs": 1}
    tlkit.plan(image_folder, **fields)
    planned = [x for x in capsys.readouterr().out.splitlines() if x.startswith("memory ")]
    assert len(planned) == 1
    assert "GiB by a rule for batches of 8, there are 0.0: it may not fit" in planned[0]
    monkeypatch.setattr("tlkit.commands.train._start", raise_(OutOfMemoryError("enough")))
    with pytest.raises(OutOfMemoryError):  # stopped once it has said it
        tlkit.train(image_folder, out=tmp_path / "run", **fields)
    assert planned[0] in capsys.readouterr().out.splitlines()
    monkeypatch.setattr("tlkit.commands.plan.free_bytes", lambda: 2**40)
    tlkit.plan(image_folder, **fields)
    assert "memory " not in capsys.readouterr().out


def raise_(error):
    def fail(*_):
        raise error

    return fail


def test_one_image_that_does_not_fit_ends_in_one_message(image_folder, tmp_path, exhausted):
    exhausted.add("all")
    options = [LAST, "--image-size=32", "--freeze=last=2", "--batch-size=4", "--epochs=1"]
    done = CliRunner().invoke(
        main, ["train", str(image_folder), *options, f"--out={tmp_path / 'run'}"]
    )
    assert done.exit_code == 2
    assert "out of memory in phase scratch with 1 image of 32 px a step" in done.stderr
    assert "--image-size" in done.stderr
    exhausted.clear()  # on a larger machine
    done = CliRunner().invoke(
        main, ["train", "--resume", str(tmp_path / "run"), "--set", "batch_size=6"]
    )
    assert done.exit_code == 0, done.stderr
    assert "6 images a step instead of 4, from epoch 1 on" in " ".join(done.stdout.split())
    run = tlkit.open_run(tmp_path / "run")
    assert run.spec.batch_size == 6
    assert run.metrics["phases"][-1]["batch_size"] == 6
    assert batches_of(run)[-1]["reason"] == "asked for at --resume"


def test_a_stopped_run_goes_on_with_the_batch_that_it_had_come_to(
    image_folder, tmp_path, exhausted
):
    exhausted.add(4)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(tlkit.errors.Interrupted):
        tlkit.train(
            image_folder,
            out=tmp_path / "run",
            progress=False,
            callbacks=[Stop()],
            **FIELDS | {"epochs": 3},
        )
    exhausted.clear()
    noted = tmp_path / "run" / "batches.json"
    written = noted.read_text()
    noted.write_text(written.replace('"batch_size": 4', '"batch_size": 2'))
    with pytest.raises(RunFolderError, match=r"batches.json is damaged .* Remove it to go on"):
        tlkit.commands.train.resume(tmp_path / "run", progress=False)
    noted.write_text(written)
    run = tlkit.commands.train.resume(tmp_path / "run", progress=False)
    assert run.metrics["phases"][-1]["batch_size"] == 4
    assert len(batches_of(run)) == 1


@pytest.mark.parametrize("size", [0, -3, "many"])
def test_a_resumed_batch_is_a_number_of_images(tmp_path, image_folder, size):
    done = CliRunner().invoke(main, ["train", "--resume", "run", "--set", f"batch_size={size}"])
    assert done.exit_code == 2
    assert "batch_size: " in done.stderr


def test_features_answers_and_measures_take_smaller_batches(
    image_folder, tiny_weights, tmp_path, monkeypatch, capsys
):
    """None of them depends on its batches: same numbers, a line for each."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    fields = {**SMALL}
    fields |= {"regime": "small", "batch_size": 16}
    before = tlkit.train(image_folder, out=tmp_path / "before", progress=False, **fields)
    expected = before.evaluate(progress=False), before.predict([image_folder / "disc"])
    tlkit.features.cache.clear(tlkit.features.cache.features_folder())
    predict = keras.Model.predict_on_batch

    def limited(self, x):
        if len(x) > 5:
            raise MemoryError
        return predict(self, x)

    monkeypatch.setattr(keras.Model, "predict_on_batch", limited)
    monkeypatch.setattr(engines, "reference", lambda model, x: [limited(model, x)])
    run = tlkit.train(image_folder, out=tmp_path / "run", **fields)
    said = " ".join(capsys.readouterr().out.split())
    assert "features: out of memory with 16 images at a time: goes on with 8" in said
    assert run.metrics["test"]["accuracy"] == before.metrics["test"]["accuracy"]
    again = run.evaluate(), run.predict([image_folder / "disc"])
    assert "evaluate: out of memory with 8 images at a time: goes on with 4" in " ".join(
        capsys.readouterr().out.split()
    )
    assert again[0]["accuracy"] == expected[0]["accuracy"]
    assert [r["label"] for r in again[1]] == [r["label"] for r in expected[1]]


def test_a_command_that_runs_out_of_memory_says_so(image_folder, monkeypatch):
    monkeypatch.setattr("tlkit.data.feed.dataset.scan", lambda *args: bytes(2**62))
    done = CliRunner().invoke(main, ["plan", str(image_folder)])
    assert done.exit_code == 2
    assert "out of memory in plan. Try fewer or smaller images" in done.stderr


@pytest.mark.full
def test_a_run_in_an_address_space_that_is_too_small(tmp_path):
    """The real thing: TensorFlow's own error, in a process that may not grow."""
    data = write_images(tmp_path / "data", ("disc", "square"), 60)
    words = ["train", str(data), "--set=backbone.weights=none", "--backbone=MobileNet"]
    words += ["--set=backbone.alpha=0.25", "--image-size=384", "--freeze=none", "--epochs=1"]
    words += ["--batch-size=84", "--set=augment=none", f"--out={tmp_path / 'run'}"]
    code = (
        "import os, re, resource, sys, tensorflow\n"
        "from tlkit.cli.main import main\n"
        "status = open('/proc/self/status').read()\n"
        "taken = 1024 * int(re.search(r'VmSize:\\s+(\\d+)', status)[1])\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (taken + {int(3.2 * 2**30)},) * 2)\n"
        f"main({words!r})\n"
    )
    # oneDNN's own allocator may end the process where it gets nothing.
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = " ".join(done.stdout.split())
    assert "it may not fit. Smaller: --batch-size" in said
    assert "out of memory with 84 images of 384 px a step: goes on with" in said
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["phases"][-1]["batch_size"] < 84
