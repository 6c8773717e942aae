"""Augmentation, MixUp and CutMix: ranges, seeds, shares; and the image of what training sees."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import CLASSES, TINY, draw_image
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.data.example import Example
from tlkit.data.feed.augment import augmenter
from tlkit.data.feed.mix import mixer
from tlkit.data.feed.pipeline import Draws, batches
from tlkit.data.pictures.decode import resize
from tlkit.errors import SpecError
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.regression import Regression

LEVELS = ("light", "medium", "strong")
SEEDS = tuple((7, i) for i in range(24))

DRAWS = """
import sys
import numpy as np, tensorflow as tf
from tlkit.data.feed.augment import augmenter
image = tf.constant(np.load(sys.argv[1]))
data = tf.data.Dataset.from_tensor_slices(np.array([(7, i) for i in range(24)], np.int32))
data = data.map(lambda seed: augmenter("strong")(image, 32, seed), num_parallel_calls=2)
np.save(sys.argv[2], np.stack([x.numpy() for x in data]))
"""


@pytest.fixture(scope="module")
def image() -> tf.Tensor:
    drawn = draw_image("square", np.random.default_rng(0))
    return tf.constant(np.asarray(drawn, np.float32))


@pytest.fixture(scope="module")
def seen(image):
    """24 draws of one image at each level, through a parallel pipeline."""

    @functools.cache
    def draw(level, mirror=True, seeds=SEEDS):
        change = augmenter(level, mirror)
        data = tf.data.Dataset.from_tensor_slices(np.array(seeds, np.int32))
        data = data.map(lambda seed: change(image, 32, seed), num_parallel_calls=4)
        return np.stack([x.numpy() for x in data])

    return draw


@pytest.mark.parametrize("level", LEVELS)
def test_draws_are_images_that_differ_and_stay_within_0_and_255(seen, level):
    drawn = seen(level)
    assert drawn.dtype == np.float32
    assert drawn.shape == (24, 32, 32, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 255
    assert drawn.max() > 200, "an image of 0-1"
    assert len(np.unique(drawn.reshape(24, -1), axis=0)) == 24


@pytest.mark.parametrize("level", LEVELS)
def test_a_draw_hangs_on_its_seed_alone(seen, image, level):
    drawn = seen(level)
    assert np.array_equal(seen(level, seeds=SEEDS[::-1])[::-1], drawn)
    alone = augmenter(level)(image, 32, tf.constant(SEEDS[5]))
    np.testing.assert_allclose(alone, drawn[5], atol=1e-2)  # outside of a graph, rounded otherwise


def test_levels_change_more_and_more(image, seen):
    plain = tf.image.resize(image, (32, 32), antialias=True).numpy()
    changes = [np.abs(seen(level) - plain).mean() for level in LEVELS]
    assert changes == sorted(changes)
    assert augmenter("none") is None


@pytest.mark.parametrize("level", LEVELS)
def test_the_mirror_can_be_left_out(seen, level):
    """The seed of the mirror is one of its own: without it all else stays."""
    both, without = seen(level), seen(level, mirror=False)
    same = [np.array_equal(x, y) for x, y in zip(both, without, strict=True)]
    assert 4 < sum(same) < 20
    if level == "light":
        turned = [np.array_equal(x, y[:, ::-1]) for x, y in zip(both, without, strict=True)]
        np.testing.assert_array_equal(np.array(same) | np.array(turned), True)


def test_grey_images_stay_grey():
    """Contrast, saturation, posterising and erasing take the three channels alike, but the fill."""
    grey = tf.constant(np.random.default_rng(0).uniform(0, 255, (40, 40, 1)).repeat(3, axis=2))
    change = augmenter("medium")
    for seed in SEEDS[:6]:
        image = change(tf.cast(grey, tf.float32), 32, tf.constant(seed)).numpy()
        assert np.abs(image - image[..., :1]).max() < 0.1


@pytest.mark.full
def test_the_jax_backend_sees_the_same_images(seen, image, tmp_path):
    pytest.importorskip("jax")
    np.save(tmp_path / "in.npy", image.numpy())
    env = {**os.environ, "KERAS_BACKEND": "jax"}
    arguments = [str(tmp_path / name) for name in ("in.npy", "out.npy")]
    subprocess.run([sys.executable, "-c", DRAWS, *arguments], check=True, env=env)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), seen("strong"), atol=1e-2)


# MixUp and CutMix


def colours(n=64, size=16):
    """Images (n, size, size, 3) of one value each, and one-hot targets."""
    values = np.linspace(0, 255, n, dtype=np.float32)
    images = np.broadcast_to(values[:, None, None, None], (n, size, size, 3))
    return tf.constant(images), tf.constant(np.eye(n, dtype=np.float32)), values


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0), (0, 1.0), (0.4, 1.0), (1e-3, 0)])
def test_targets_hold_the_shares_that_images_have(mixup, cutmix):
    images, targets, values = colours()
    kinds = set()
    for seed in range(8):
        x, y = mixer(mixup, cutmix)(images, targets, tf.constant([seed, 1]))
        x, y = x.numpy(), y.numpy()
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
        # An image's mean is its target's, whether it was blended or patched.
        np.testing.assert_allclose(x.mean(axis=(1, 2, 3)), y @ values, atol=0.02)
        kinds.add("mixup" if x.std(axis=(1, 2)).max() < 0.01 else "cutmix")
        assert len(np.unique(y.diagonal().round(4))) > (1 if mixup == 1e-3 else 8)
    assert kinds == {name for name, on in (("mixup", mixup), ("cutmix", cutmix)) if on}


def test_shares_are_those_of_the_beta_distribution():
    images, targets, _ = colours(512, 2)
    own = mixer(0.4, 0)(images, targets, tf.constant([3, 4]))[1].numpy().diagonal()
    assert own.mean() == pytest.approx(0.5, abs=0.06)
    assert own.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.02)


def test_a_cutmix_rectangle_is_a_rectangle_of_the_other_image():
    images, targets, values = colours(8)
    x, y = (t.numpy() for t in mixer(0, 1.0)(images, targets, tf.constant([0, 2])))
    for i in range(8):
        other = x[i, ..., 0] != values[i]
        rows, columns = other.any(axis=1), other.any(axis=0)
        assert np.array_equal(other, rows[:, None] & columns)
        assert set(np.unique(x[i])) <= {values[i], values[i - 1]}
        assert y[i, i - 1] == pytest.approx(other.mean(), abs=1e-6)


def test_mixing_hangs_on_the_seed_alone():
    images, targets, _ = colours(8)
    mix = tf.function(mixer(0.4, 1.0))
    one, again, other = (mix(images, targets, tf.constant(s))[0] for s in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_pipeline_mixes_what_was_augmented_and_draws_anew():
    random = np.random.default_rng(0)
    labels = [CLASSES[i % 3] for i in range(10)]
    examples = [
        Example(f"array/{i}", label, pixels=np.asarray(draw_image(label, random)))
        for i, label in enumerate(labels)
    ]
    task = Classification(CLASSES)
    draws = Draws(1, range(2), augment=augmenter("strong"), mix=mixer(0.2, 1.0))
    data = batches(examples, task.soften(task.encode(labels)), 32, 4, draws)
    seen, again = ([(x.numpy(), y.numpy()) for x, y in data] for _ in range(2))
    first, second = seen[:3], seen[3:]
    assert [len(x) for x, _ in first] == [4, 4, 2]
    assert all(x.shape[1:] == (32, 32, 3) and y.shape[1:] == (3,) for x, y in first)
    assert not np.array_equal(first[0][0], second[0][0])
    assert all(np.array_equal(a, b) for a, b in zip(seen[4], again[4], strict=True))


@pytest.mark.parametrize("mix", [None, mixer(0.4, 0)])
def test_what_is_drawn_anew_comes_as_whole_values(mix):
    random = np.random.default_rng(0)
    examples = [
        Example(f"array/{i}", "disc", pixels=np.asarray(draw_image("disc", random)))
        for i in range(10)
    ]
    targets = np.eye(10, dtype=np.float32)
    plain = np.concatenate([x for x, _ in batches(examples, targets, 32, 4)])
    assert plain.dtype == np.float32

    def unchanged(image, size, seed):
        return resize(image, size)

    drawn = list(batches(examples, targets, 32, 4, Draws(1, augment=unchanged, mix=mix)))
    got, shares = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert got.dtype == np.uint8
    assert (got[0] != plain[0].round()).any(), "not shuffled"
    expected = np.tensordot(shares, plain, axes=1)
    assert np.abs(got - expected).max() < 0.501


# Targets as shares


def test_shares_of_one_class_lose_and_score_as_its_index_does():
    task, random = Classification(CLASSES), np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), 20).astype(np.float32)
    index = random.integers(0, 3, 20).astype(np.int32)
    loss = task.loss()
    sparse = keras.losses.SparseCategoricalCrossentropy()(index, p)
    assert float(loss(index, p)) == pytest.approx(float(sparse), rel=1e-6)
    assert float(loss(task.soften(index), p)) == pytest.approx(float(sparse), rel=1e-6)
    for truth in (index, task.soften(index)):
        metric = task.keras_metric()
        metric.update_state(truth, p)
        assert float(metric.result()) == pytest.approx((p.argmax(axis=1) == index).mean())


@pytest.mark.parametrize(
    ("task", "target", "text"),
    [
        (Classification(("a", "b", "c")), [0, 1, 0], "b"),
        (Classification(("a", "b", "c")), [0.3, 0.7, 0], "b 0.70\na 0.30"),
        (Multilabel(("a", "b")), [0, 0], "no label"),
        (Multilabel(("a", "b")), [1, 1], "a\nb"),
        (Regression(("age", "area")), [3.14159, 20], "age 3.14\narea 20"),
        (Classification(("x" * 40, "b")), [1, 0], "x" * 23 + "…"),
    ],
)
def test_targets_in_words(task, target, text):
    assert task.describe(np.array(target, np.float32)) == text


# The spec, training and the preview


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "regression", "cutmix": 1}, "Allowed for regression: 0, or mixup. Received: 1"),
        ({"balance": "weights", "mixup": 0.2}, "Allowed with mixup or cutmix: none, sampling"),
        ({"balance": "weights", "cutmix": 1}, "Allowed with mixup or cutmix: none, sampling"),
        ({"augment": "heavy"}, "augment: "),
        ({"mixup": -1}, "mixup: "),
    ],
)
def test_what_does_not_go_together_is_said(fields, words):
    with pytest.raises(SpecError, match=words):
        make_spec(fields)


def test_mixing_takes_part_in_training_and_leaves_validation_as_it_is(image_folder, tmp_path):
    fields = {**TINY, "epochs": 1, "seed": 3, "freeze": "last=1", "regime": "small"}
    run = tlkit.train(
        image_folder, out=tmp_path / "run", progress=False, augment="strong", mixup=0.4, cutmix=1.0,
        balance="sampling", **fields,
    )  # fmt: skip
    phase = run.plan["phases"][-1]
    assert phase["augment"]
    assert not run.metrics["phases"][-1]["features_kept"]
    assert any("strong, mixup 0.4, cutmix 1" in reason for reason in phase["reasons"])
    # Validation counts whole images, so that its accuracy is a share of them.
    counted = run.metrics["val"]["accuracy"] * run.metrics["examples"]["val"]
    assert counted == pytest.approx(round(counted), abs=1e-4)


def preview(*arguments):
    return CliRunner().invoke(main, ["data", "preview", *map(str, arguments)])


def test_preview_draws_a_grid(image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--set", "image_size=32", "--set", "augment=light", "--images", 2, "--draws", 3]
    result = preview(image_folder, *options)
    assert result.exit_code == 0, result.output
    assert "preview.png: augment light" in result.output
    with Image.open(tmp_path / "preview.png") as image:
        assert image.format == "PNG"
        assert image.width > image.height
    path = tlkit.preview(
        image_folder, tmp_path / "twin.png", images=2, draws=3, image_size=32, augment="light",
        progress=False,
    )  # fmt: skip
    assert path.read_bytes() == (tmp_path / "preview.png").read_bytes()


def test_preview_draws_anew_in_each_column(image_folder, tmp_path, monkeypatch):
    drawn = []
    draw = tlkit.commands.preview._draw

    def spy(task, columns, *more):
        drawn.extend(images for images, _ in columns)
        return draw(task, columns, *more)

    monkeypatch.setattr(tlkit.commands.preview, "_draw", spy)
    out = tmp_path / "seen.png"
    tlkit.preview(image_folder, out, images=2, draws=3, image_size=32, augment="medium",
                  progress=False)  # fmt: skip
    assert len(drawn) == 4
    for one, other in itertools.combinations(drawn, 2):
        assert all(np.any(a != b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "seen.jpg"], "--out: must be a PNG file in a folder that exists"),
        (["--out", "gone/seen.png"], "Allowed: such as NAME.png. Received: gone/seen.png"),
        (["--images", "0"], "images: Allowed: 1 to 50. Received: 0"),
        (["--pictures", "0"], "note      --pictures is called --images from this version on"),
        (["--draws", "99"], "draws: Allowed: 1 to 50. Received: 99"),
        (["--set", "augment=heavy"], "augment: "),
    ],
)
def test_preview_refuses_in_one_sentence(image_folder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = preview(image_folder, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_preview_of_a_table_of_numbers(image_folder, tmp_path):
    rows = [
        f"{p.relative_to(image_folder)},{i}"
        for i, p in enumerate(sorted(image_folder.rglob("*.png")))
    ]
    table = image_folder.parent / "numbers.csv"
    table.write_text("image,label\n" + "\n".join(f"{image_folder.name}/{row}" for row in rows))
    out = tmp_path / "seen.png"
    settings = ["task=regression", "mixup=0.2", "image_size=32", "augment=none"]
    result = preview(table, "--out", out, *(x for s in settings for x in ("--set", s)))
    assert result.exit_code == 0, result.output
    assert out.stat().st_size > 10_000
    assert json.dumps("augment none, mixup 0.2")[1:-1] in result.output
