"""tlkit as a library: what the program that calls it had set is set afterwards too."""

import json
import subprocess
import sys

import pytest
from conftest import SMALL

HOST = """
import gc, json, logging, os, random, signal, sys, warnings
from pathlib import Path

import matplotlib
matplotlib.use("svg")
import keras
import numpy as np
import sklearn.metrics  # adds a filter of warnings of its own
import tensorflow as tf

import tlkit
from tlkit.errors import TlkitError

data, folder, asked = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
TINY = json.loads(sys.argv[4])
LOOK = {k: v for k, v in TINY.items() if k != "engine"}


FAILING = {
    "failure": TlkitError,
    "in a batch": ZeroDivisionError,
    "in validation": OSError,
    "at an epoch": TlkitError,  # out of memory
    "at the start": SystemExit,
    "by hand": TlkitError,  # interrupted
}


def policy():
    return keras.config.dtype_policy().name


def state():
    graph = tf.config.experimental
    return {
        "matplotlib": matplotlib.get_backend(),
        "policy": policy(),
        "floats": [keras.config.floatx(), keras.config.epsilon()],
        "channels": keras.config.image_data_format(),
        "random": str(random.getstate()),
        "numpy": str(np.random.get_state()),
        "filters": len(warnings.filters),
        "levels": [logging.getLogger(n).level for n in ("", "tensorflow", "absl", "matplotlib")],
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "gc": [gc.isenabled(), gc.get_threshold()],
        "path": list(sys.path),
    }


class Fail(keras.callbacks.Callback):
    # Ends a training in its midst.
    def __init__(self, at, error):
        super().__init__()
        self.error = error
        setattr(self, at, self.fail)

    def fail(self, *_, **__):
        raise self.error


def failing(at, error, **fields):
    made = {**TINY, "regime": "medium", "epochs": 2, "precision": "float16", **fields}
    made |= {"callbacks": [Fail(at, error)], "progress": False}
    return lambda out: tlkit.train(data, out=out, **made)


keras.config.set_dtype_policy("mixed_bfloat16")
keras.config.set_epsilon(1e-5)
if "deterministic" not in asked and "in validation" not in asked:
    keras.config.set_image_data_format("channels_first")
random.seed(5), np.random.seed(6), tf.random.set_seed(7)
seeds = keras.random.uniform(())  # the global generator of Keras is there
with keras.saving.custom_object_scope({"Own": keras.layers.Dense}):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.ones(8), verbose=0)
    # What a host draws without tlkit between, as in a second process.
    before = state()
    calls = {
        "train": lambda out: tlkit.train(data, out=out, progress=False, **TINY),
        "deterministic": lambda out: tlkit.train(
            data, out=out, deterministic=True, regime="medium", epochs=1, precision="float16",
            progress=False, **TINY),
        "compare": lambda out: tlkit.compare(
            data, "MobileNet:alpha=0.25,weights=none,image_size=32", budget=40, regime="small",
            out=out, progress=False),
        "preview": lambda out: tlkit.preview(data, out.with_suffix(".png"), progress=False, **LOOK),
        "lr_find": lambda out: tlkit.lr_find(
            data, regime="large", steps=10, out=out.with_suffix(".png"), progress=False,
            **TINY),
        "plan": lambda out: tlkit.plan(data, progress=False, **TINY),
        "in a batch": failing("on_train_batch_end", ZeroDivisionError("host")),
        "in validation": failing("on_test_batch_begin", OSError("host"), deterministic=True),
        "at an epoch": failing("on_epoch_end", MemoryError("host"), batch_size=2),
        "at the start": failing("on_train_begin", SystemExit(3)),
        "by hand": failing("on_epoch_begin", KeyboardInterrupt()),
        "failure": lambda out: tlkit.train(data, freeze="until=nowhere", progress=False, **TINY),
    }
    for call in filter(None, asked):
        try:
            found = calls[call](folder / call)
            assert call not in FAILING
        except FAILING.get(call, ()):
            assert "host" in str(sys.exc_info()[1]) or call not in ("in a batch", "in validation")
        if call == "train":
            assert {x.dtype_policy.name for x in found.model.layers} == {"float32"}
        after = state()
        assert after == before, (call, [key for key in before if after[key] != before[key]])
    # Layers are named on, and scopes hold, as if nothing had been between.
    names = [keras.layers.Dense(2).name, keras.layers.Conv2D(2, 3).name]
    assert keras.layers.deserialize({"class_name": "Own", "config": {"units": 2}}).units == 2
    model.fit(np.ones((8, 4)), np.zeros(8), verbose=0)
print(json.dumps({
    "names": names,
    "draws": [random.random(), np.random.rand(), float(tf.random.uniform(())),
              float(keras.random.uniform(())), float(tf.random.normal(()))],
    "weights": [float(w.numpy().astype("float64").sum()) for w in model.weights],
    "deterministic": tf.config.experimental.enable_op_determinism.__name__ and __import__(
        "tensorflow.python.framework.config", fromlist=["x"]).is_op_determinism_enabled(),
}))
"""

CALLS = {
    "several": ("train", "preview", "plan", "failure", "in a batch"),
    "many trainings": ("compare", "lr_find"),
    "ended in a callback": ("at an epoch", "at the start", "by hand"),
    "deterministic": ("in validation",),
    "deterministic to its end": ("deterministic",),
}


def host(calls, data, folder):
    done = subprocess.run(
        [sys.executable, "-c", HOST, str(data), str(folder), ",".join(calls), json.dumps(SMALL)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(image_folder, tmp_path_factory):
    return host((), image_folder, tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param(kind, marks=[pytest.mark.full] * (kind not in ("several", "deterministic")))
        for kind in CALLS
    ],
)
def test_a_host_goes_on_as_if_nothing_had_been_between(calls, undisturbed, image_folder, tmp_path):
    assert host(CALLS[calls], image_folder, tmp_path) == undisturbed


@pytest.mark.full
def test_importing_tlkit_chooses_no_backend_of_matplotlib():
    code = (
        "import tlkit, tlkit.commands.train, tlkit.commands.lr_find, matplotlib\n"
        "import tlkit.commands.compare.compare\n"
        "assert matplotlib.rcParams._get_backend_or_none() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
