"""Real weights on real pictures, through the command as a person gives it."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from conftest import SHARED, needs_shared, shared_env

from tlkit.cli.main import main

FLOWERS = SHARED / "data" / "flowers12"
NASTY = SHARED / "data" / "nasty"
WEIGHTS = "keras_home/models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"

pytestmark = needs_shared("data/flowers12", "data/nasty", WEIGHTS)


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A run on 12 kinds of flowers: its folder, and what was said."""
    out = tmp_path_factory.mktemp("real") / "flowers"
    options = ["--backbone", "MobileNetV2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "tlkit", "train", str(FLOWERS), *options],
        env=shared_env(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_flowers_are_learnt_from_few_pictures(flowers):
    out, _ = flowers
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["regime"] == "small"
    assert [phase["name"] for phase in metrics["phases"]] == ["head"]
    assert metrics["test"]["examples"] > 200
    assert metrics["test"]["accuracy"] >= 0.93


def test_a_person_is_told_the_result_and_what_to_type_next(flowers):
    out, said = flowers
    accuracy = json.loads((out / "metrics.json").read_text())["test"]["accuracy"]
    assert f"{accuracy:.3f} of " in said
    assert f"tlkit predict {out} photo.jpg" in said


def test_evaluate_repeats_the_test(flowers):
    out, _ = flowers
    got = call("evaluate", out, "--json")
    expected = json.loads((out / "metrics.json").read_text())["test"]
    assert got["accuracy"] == expected["accuracy"]
    assert got["confusion"] == expected["confusion"]
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-3)


def test_predict_answers_every_file_or_says_why_not(flowers):
    """Files that other programs stumble over, with a flower at each end."""
    flower = sorted((FLOWERS / "test" / "sunflower").iterdir())[0]
    files = [flower, *sorted(NASTY.iterdir()), flower]
    rows = call("predict", flowers[0], *files, "--json")
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [rows[0]["label"], rows[-1]["label"]] == ["sunflower", "sunflower"]
    assert rows[0]["probabilities"] == pytest.approx(rows[-1]["probabilities"], abs=1e-4)
    for row in rows:
        if row["error"] is None:
            assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        else:
            assert row["error"].strip()
            assert row["label"] is None
    failed = {row["path"].rsplit("/", 1)[-1] for row in rows if row["error"]}
    answered = {file.name for file in files} - failed
    assert {"zero_bytes.jpg", "text.jpg", "broken.png", "twelve_bit.jpg"} <= failed
    assert {
        "hopper.jpg",
        "hopper_gray.jpg",
        "pil_sample_cmyk.jpg",
        "flower.webp",
        "basn6a16.png",
        "Landscape_6.jpg",
        "hopper.bmp",
        "png_named.jpg",
    } <= answered
