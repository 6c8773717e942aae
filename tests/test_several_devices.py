"""lr-find and compare compute on the devices that are asked for, as train does."""

import json
import subprocess
import sys

import pytest
from conftest import TINY

SCRIPT = """
import json, sys
import tensorflow as tf
used = []
scope = tf.distribute.MirroredStrategy.__init__
def noted(self, devices=None, *more):
    used.append(list(devices))
    return scope(self, devices, *more)
tf.distribute.MirroredStrategy.__init__ = noted
import tlkit
data, out, backbone = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
fields = {"image_size": 32, "device": "cpu:0,1", "progress": False, "batch_size": 6}
fields |= {"freeze": "last=2", "head": {"dropout": 0.0}}
found = tlkit.lr_find(data, backbone=backbone, steps=10, **fields)
assert len(found.losses) >= 3 and found.suggestion > 0, found
assert len(used) == 1, used
name = f"MobileNet:alpha=0.25,weights={backbone['weights']}"
compared = tlkit.compare(data, name, budget="280s", out=out, **fields)
assert compared.best.finetuned is not None, compared
print(json.dumps({"devices": used, "losses": found.losses}))
"""


@pytest.mark.full
def test_two_devices_share_lr_find_and_compare(image_folder, tiny_weights, tmp_path):
    backbone = {**TINY["backbone"], "weights": tiny_weights}
    words = [sys.executable, "-c", SCRIPT, str(image_folder), str(tmp_path / "out")]
    done = subprocess.run(
        [*words, json.dumps(backbone)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["devices"] == [["CPU:0", "CPU:1"]] * 2
    import tlkit

    fields = {"image_size": 32, "progress": False, "batch_size": 6, "freeze": "last=2"}
    fields["head"] = {"dropout": 0.0}
    alone = tlkit.lr_find(image_folder, backbone=backbone, steps=10, **fields)
    # Each device is given the whole batch of a single step: the same losses as on one.
    assert abs(alone.losses[0] - said["losses"][0]) < 1e-4
