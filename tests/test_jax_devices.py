"""Several devices on the JAX backend: logical ones of a CPU, in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import SMALL, write_images

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="the package jax is not installed"
)

SCRIPT = """
import json, os, sys

import jax
import keras
import numpy as np
import tlkit
from tlkit.errors import SpecError
from tlkit.compute.devices import data_parallel

data, val, backbone, out = sys.argv[1:]
KINDS = {"last": {"freeze": "last=2"}}
if os.environ.get("TLKIT_FULL") == "1":
    KINDS["whole"] = {"freeze": "none"}
RUNS = [(kind, device, 1) for kind in KINDS for device in ("cpu:0,1", "cpu")]
RUNS.append(("last", "cpu", 3))
told = {"halves": [], "problems": {}}


def train(**fields):
    return tlkit.train(data, val=val, test=0, backbone=backbone, batch_size=8,
        epochs=2, augment="none", progress=False, **fields)


for kind, device, steps in RUNS:
    name = f"{kind} {device} {steps}"
    # At a higher rate the whole network's loss rises, and rounding with it.
    options = {"steps_per_execution": steps, "learning_rate": 1e-3}
    run = train(out=f"{out}/{name}", device=device, optimizer=options, **KINDS[kind])
    told[name] = {
        "log": [[float(row[n]) for n in ("loss", "val_loss")] for row in run.files.read_log()],
        "device": run.metrics["phases"][-1]["device"],
        "devices": json.loads((run.folder / "env.json").read_text())["devices"],
        "placed": sorted({len(v.value.devices()) for v in run.model.weights}),
        "left": keras.distribution.distribution() is not None,
    }

for device in ("gpu:1", "cpu:0,2"):
    try:
        train(device=device)
    except SpecError as error:
        told["problems"][device] = str(error)


class Look(keras.layers.Layer):
    def call(self, x):
        rows = lambda sharding: told["halves"].append(sharding.shard_shape(x.shape)[0])
        jax.debug.inspect_array_sharding(x, callback=rows)
        return x


machine = data_parallel("cpu", ["cpu:0", "cpu:1"])
with machine.scope():
    inputs = keras.Input((4,))
    model = machine.share(keras.Model(inputs, keras.layers.Dense(2)(Look()(inputs))))
    model.compile(loss="mse")
    for rows in (6, 3):
        model.test_on_batch(np.ones((rows, 4), "float32"), np.ones((rows, 2), "float32"))

    norm = keras.layers.BatchNormalization(momentum=0)
    model = machine.share(keras.Sequential([keras.Input((1,)), norm, keras.layers.Dense(1)]))
    model.compile("sgd", "mse")
rows = np.arange(6, dtype="float32")[:, None]
model.train_on_batch(rows, rows)
told["statistics"] = [float(norm.moving_mean[0]), float(norm.moving_variance[0])]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the script says. In batches of 8 there are 3 images in the last one of the 27 to
    train on, and one in that of the 9 to validate on.
    """
    folder = tmp_path_factory.mktemp("devices")
    train = write_images(folder / "train", count=9, seed=1)
    val = write_images(folder / "val", count=3, seed=2)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (train, val, SMALL["backbone"]["name"], folder))],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "TLKIT_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["last", pytest.param("whole", marks=pytest.mark.full)])
def test_two_devices_train_as_one_does_on_jax(told, kind):
    """With dropout. Losses near 0 are differences of float32 from 1: hence the absolute part."""
    two, one = told[f"{kind} cpu:0,1 1"], told[f"{kind} cpu 1"]
    assert len({loss for loss, _ in one["log"]}) > 2, "nothing was trained"
    for got, expected in zip(two["log"], one["log"], strict=True):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_metrics_and_environment_name_both_devices(told):
    both, one = told["last cpu:0,1 1"], told["last cpu 1"]
    assert (both["device"], both["devices"]) == ("cpu:0 + cpu:1", ["cpu:0", "cpu:1"])
    assert (one["device"], one["devices"]) == ("cpu:0", ["cpu:0"])


def test_weights_lie_on_both_devices_and_a_later_run_takes_one(told):
    assert told["last cpu:0,1 1"]["placed"] == [2]
    assert told["last cpu 1"]["placed"] == [1]
    assert not any(said["left"] for name, said in told.items() if " " in name)


def test_a_batch_is_halved_if_it_can_be(told):
    """Of 6 rows each device gets 3; of 3 rows each gets all."""
    assert told["halves"] == [3, 3]


def test_batch_statistics_are_those_of_the_whole_batch(told):
    """Of 0 to 5, on two devices."""
    assert told["statistics"] == pytest.approx([2.5, 35 / 12])


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu:1", "this machine has 0 GPUs that JAX can see. Allowed: auto, cpu. Received: gpu:1"),
        ("cpu:0,2", "this machine has 2 CPUs that JAX can see. Allowed: auto, cpu. Received: cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_on_jax(told, device, message):
    assert message in told["problems"][device]


def test_several_steps_in_a_call_train_as_single_ones_do_on_jax(told):
    """Four steps an epoch in calls of three."""
    for got, expected in zip(told["last cpu 3"]["log"], told["last cpu 1"]["log"], strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
