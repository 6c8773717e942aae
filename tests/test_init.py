"""`init`: a run that starts from an earlier one keeps its weights, its split and its classes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY, draw_image, write_images

import tlkit
from tlkit.cli.main import main
from tlkit.data.example import Example
from tlkit.data.split import Before, split
from tlkit.errors import DataError, RunFolderError, SpecError


@pytest.fixture(scope="module")
def more(image_folder, tmp_path_factory):
    """The images of `images`, new ones of each class, and a class more that sorts first."""
    folder = shutil.copytree(image_folder, tmp_path_factory.mktemp("more") / "shapes")
    random = np.random.default_rng(7)
    for i in range(8):
        for label in ("disc", "square"):
            draw_image(label, random).save(folder / label / f"new{i}.png")
    (folder / "a new one").mkdir()
    for i in range(10):
        draw_image("stripes", random).rotate(90).save(folder / "a new one" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def grown(tiny_run, more, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "grown"
    return tlkit.train(
        more, init=tiny_run, out=out, regime="small", engine="keras", seed=5, progress=False
    )


def digests(run, part):
    return {digest for _, digest, _ in run.members[part]}


def test_known_images_stay_in_their_parts_and_new_ones_are_dealt(tiny_run, grown):
    for part in ("train", "val", "test"):
        assert digests(tiny_run, part) < digests(grown, part)
    assert not digests(grown, "train") & (digests(tiny_run, "val") | digests(tiny_run, "test"))


def test_old_classes_come_first_and_backbone_and_size_are_the_earlier_runs(tiny_run, grown):
    assert grown.labels == (*tiny_run.labels, "a new one")
    assert grown.spec.backbone.name == TINY["backbone"]["name"]
    assert (grown.spec.backbone.alpha, grown.spec.size) == (0.25, 32)
    assert grown.spec.init == str(tiny_run.folder)


def test_without_a_better_one_the_earlier_model_is_delivered(
    tiny_run, image_folder, tmp_path, capsys
):
    fields = {"freeze": "last=1", "epochs": 1, "engine": "keras", "head": {"solver": "fit"}}
    fields["optimizer"] = {"learning_rate": 1e-9, "name": "sgd"}
    run = tlkit.train(image_folder, init=tiny_run.folder, out=tmp_path / "run", **fields)
    said = capsys.readouterr().out
    assert f"init      {tiny_run.folder}: images it knows stay in their parts: " in said
    assert "its 3 outputs keep their places; new: none" in said
    assert "before any training" in said
    for old, new in zip(tiny_run.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)
    assert run.metrics["val"]["accuracy"] == tiny_run.metrics["val"]["accuracy"]


def test_the_columns_of_old_classes_are_kept_by_name():
    from tlkit.commands.earlier import _matched

    old = [np.arange(6.0).reshape(2, 3), np.arange(3.0)]
    new = [np.full((2, 4), -1.0), np.full(4, -2.0)]
    kernel, bias = _matched(old, new, ("a", "b", "c"), ("c", "new", "a", "b"))
    np.testing.assert_array_equal(kernel, [[2, -1, 0, 1], [5, -1, 3, 4]])
    np.testing.assert_array_equal(bias, [2, -2, 0, 1])
    assert _matched([np.zeros((2, 5))], [np.zeros((2, 6))], ("a",), ("a", "b")) is None


@pytest.mark.full
def test_numbers_keep_their_units(image_folder, tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    fields = {**TINY, "task": "regression", "regime": "small", "progress": False, "epochs": 1}
    values = random.normal(5, 2, (12, 1))
    first = tlkit.train((images, values), out=tmp_path / "first", **fields)
    fields["backbone"] = {k: v for k, v in TINY["backbone"].items() if k != "weights"}
    fields["optimizer"] = {"learning_rate": 1e-9}
    other = (images, 10 * values)
    again = tlkit.train(other, init=first, out=tmp_path / "again", **fields)
    np.testing.assert_allclose(
        again.model.predict(images, verbose=0), first.model.predict(images, verbose=0), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": "vgg16"}, "its weights belong to backbone.name MobileNet. Allowed: the same"),
        ({"task": "multilabel"}, "its weights belong to task classification"),
        ({"hidden": [8]}, r"its weights belong to head.hidden \[\]"),
        ({"weights": "imagenet"}, "brings the weights. Allowed: backbone.weights left out"),
    ],
    ids=str,
)
def test_what_the_weights_do_not_fit_is_refused(tiny_run, image_folder, fields, words):
    with pytest.raises(SpecError, match=words):
        tlkit.plan(image_folder, init=tiny_run.folder, progress=False, **fields)


def test_runs_that_nothing_can_start_from(tiny_run, image_folder, tmp_path):
    with pytest.raises(RunFolderError, match="init .*nowhere: is no folder"):
        tlkit.plan(image_folder, init=tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="holds no spec.yaml. Allowed: a folder made by"):
        tlkit.plan(image_folder, init=tmp_path)
    unfinished = shutil.copytree(tiny_run.folder, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(RunFolderError, match="is unfinished.*goes on with: tlkit train --resume"):
        tlkit.plan(image_folder, init=unfinished)
    coloured = shutil.copytree(tiny_run.folder, tmp_path / "coloured")
    spec = coloured / "spec.yaml"
    spec.write_text(spec.read_text().replace("normalize: application", "normalize: dataset"))
    with pytest.raises(SpecError, match="was normalised by the colours of its own images"):
        tlkit.plan(image_folder, init=coloured)


def test_a_class_that_is_gone_is_refused_on_the_command_line(tiny_run, tmp_path):
    data = write_images(tmp_path / "two", labels=("disc", "square"), count=6, seed=9)
    arguments = ["train", str(data), "--init", str(tiny_run.folder), "--out", str(tmp_path / "x")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "knows stripes, of which there is no image here. Allowed: data with all" in done.stderr
    assert not (tmp_path / "x").exists()


# The split alone


def made(count, group=None):
    examples = [
        Example(f"{c}/{i}", c, group=group and group(i)) for c in "ab" for i in range(count)
    ]
    return examples, {e.id: e.id for e in examples}


def test_given_parts_give_up_what_the_earlier_run_used_otherwise():
    examples, hashes = made(6)
    parts = {"train": examples[2:], "val": [examples[0], examples[1]]}
    known = {"a/0": "train", "a/1": "val", "a/3": "val", "b/0": "test"}
    found = split(parts, hashes, {"test": 0.2}, 0, before=Before("r", known, ("a", "b")))
    assert [e.id for e in found.val] == ["a/1"]
    assert "b/0" in [e.id for e in found.test]
    assert found.left_out["a/0"] == "the earlier run trained on it"
    assert found.left_out["a/3"] == "the earlier run validated with it"
    apart = split({"train": examples}, hashes, {"val": 0.2, "test": 0.0}, 0,
                  before=Before("r", {"a/2": "test"}, ("a", "b")))  # fmt: skip
    assert apart.left_out == {"a/2": "the earlier run was tested with it"}


def test_a_group_of_several_parts_is_left_out_and_others_follow_their_known_image():
    examples, hashes = made(8, lambda i: f"g{i // 2}")
    known = {"a/0": "train", "a/1": "val", "a/2": "val"}
    found = split({"train": examples}, hashes, {"val": 0.2}, 0, before=Before("r", known, ("a",)))
    assert "several parts of the earlier run" in found.left_out["a/0"]
    assert {"a/2", "a/3"} <= {e.id for e in found.val}


def test_outputs_keep_their_places():
    before = Before("r", {}, ("b", "a"))
    assert before.ordered(("a", "b", "c")) == ("b", "a", "c")
    with pytest.raises(DataError, match="init r: knows b, of which there is no image here"):
        before.ordered(("a", "c"))
