"""Real weights on real images, through the command as a person gives it."""

import json
import shutil

import pytest
from click.testing import CliRunner
from conftest import SHARED, needs_shared
from forked import finished

import tlkit
from tlkit.cli.main import main
from tlkit.data.pictures.decode import why_undecodable

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
    done = finished("train", FLOWERS, *options)
    assert done.wait() == 0, done.stderr
    return out, done.stdout


def test_flowers_are_learnt_from_few_images(flowers):
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
    got = call("evaluate", out, "--raw", "--json")
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


@pytest.fixture(scope="module")
def among_flowers(tmp_path_factory):
    """Class folders of few flowers, and one of files that other programs stumble over."""
    root = tmp_path_factory.mktemp("mixed") / "mixed"
    for kind in ("sunflower", "windflower"):
        (root / kind).mkdir(parents=True)
        for file in sorted((FLOWERS / "train" / kind).iterdir())[:12]:
            shutil.copy(file, root / kind)
    shutil.copytree(NASTY, root / "nasty")
    return root


@pytest.mark.full
@needs_shared("keras_home/models/mobilenet_2_5_128_tf_no_top.h5")
@pytest.mark.parametrize("way", ["folder", pytest.param("prepared", marks=pytest.mark.full)])
def test_difficult_files_are_a_class_like_others(among_flowers, tmp_path, way):
    """Training and prediction finish, and every file that cannot be used is named with why."""
    reasons = {
        f"nasty/{file.name}": reason
        for file in NASTY.iterdir()
        if (reason := why_undecodable(file.read_bytes()))
    }
    data = among_flowers
    if way == "prepared":
        data = tlkit.prepare_data(among_flowers, tmp_path / "prepared", progress=False)
        listed = json.loads((data / "tlkit.json").read_text())["left_out"]
    options = ["--set", "backbone={name: MobileNet, alpha: 0.25}", "--image-size", "128"]
    options += ["--regime", "small", "--out", str(tmp_path / "run")]
    run = finished("train", data, *options)
    assert run.wait() == 0, run.stderr
    if way == "folder":
        listed = json.loads((tmp_path / "run" / "scan.json").read_text())["left_out"]
    named = {item["id"]: item["reason"] for item in listed}
    assert named.items() >= reasons.items()
    assert all(named[id_].startswith("same content") for id_ in named.keys() - reasons.keys())
    rows = call("predict", tmp_path / "run", among_flowers / "nasty", "--json")
    failed = {
        f"nasty/{row['path'].rsplit('/', 1)[-1]}": row["error"] for row in rows if row["error"]
    }
    assert failed == reasons
    assert len(rows) == len(list(NASTY.iterdir()))
