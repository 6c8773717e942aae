"""The learning-rate range test: what it suggests, and that it leaves nothing changed."""

import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.commands.lr_find import EXPLODED, range_test, rising, smooth, suggest
from tlkit.errors import SpecError, TrainingError

RATES = rising(1e-6, 1.0, 100)


def linear(optimizer):
    """A linear model with a loss that explodes above a known rate, and its endless batch."""
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 4)).astype(np.float32)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mean_squared_error", jit_compile=False)
    return model, iter(lambda: (x, x @ np.ones((4, 1), np.float32)), None)


def state(model):
    return [np.array(v) for v in (*model.get_weights(), *model.optimizer.variables)]


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD(0.01, 0.9), keras.optimizers.Adam()])
def test_weights_and_optimizer_are_put_back_to_the_bit(optimizer):
    model, batches = linear(optimizer)
    for _ in range(3):  # momenta and a step count to lose
        model.train_on_batch(*next(batches))
    before = state(model)
    losses = range_test(model, batches, rising(1e-6, 10.0, 40))
    assert losses[0] != losses[-1]
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_loss_of_a_step_is_that_of_its_batch_alone():
    model, batches = linear(keras.optimizers.SGD(0.0))
    x, y = next(batches)
    expected = float(np.square(np.asarray(model(x)) - y).mean())
    many = iter([(x, y), (x, 1.2 * y), (x, y)])
    losses = range_test(model, many, [1e-12] * 3)
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[2] == pytest.approx(expected, rel=1e-4)


def test_it_stops_when_the_loss_explodes():
    model, batches = linear(keras.optimizers.SGD(0.0))
    losses = range_test(model, batches, rising(1e-3, 1e6, 60))
    assert len(losses) < 40
    smoothed = smooth(losses)
    assert not np.isfinite(losses[-1]) or smoothed[-1] > EXPLODED * min(smoothed)


def test_a_curve_that_falls_and_explodes_gives_a_tenth_of_where_it_is_lowest():
    losses = [2 - min(1.5, 60 * rate**0.8) + 300 * rate**2 for rate in RATES]
    lowest = RATES[int(np.argmin(smooth(losses)))]
    assert lowest / 15 < suggest(RATES, losses) <= lowest / 5


def test_after_a_solved_head_noise_does_not_choose():
    """A loss that cannot fall: the rate below which nothing happens is still found."""
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.02, len(RATES))
        losses = [
            0.1 + abs(n) + 30 * max(0, rate - 0.02) for n, rate in zip(noise, RATES, strict=True)
        ]
        assert 1e-4 < suggest(RATES, losses) < 1e-2


def test_a_loss_that_is_infinite_from_the_start_is_named():
    with pytest.raises(TrainingError, match="Choose a lower --lowest"):
        suggest(RATES, [1.0, float("nan")])


@pytest.mark.parametrize(
    ("range_", "said"),
    [((1e-6, 1, 5), "Allowed: 10 or more. Received: 5"), ((1, 0.1, 50), "0 < lowest < highest")],
)
def test_a_range_that_is_none_is_named(range_, said):
    with pytest.raises(SpecError, match=said):
        rising(*range_)


def test_the_command_suggests_a_rate_and_draws_the_curve(image_folder, tiny_weights, tmp_path):
    curve = tmp_path / "rates.png"
    options = [f"--set=backbone={json.dumps({**TINY['backbone'], 'weights': tiny_weights})}"]
    options += ["--image-size=32", "--freeze=last=2", "--steps=30", f"--out={curve}", "--json"]
    done = CliRunner().invoke(main, ["lr-find", str(image_folder), *options])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["phase"] == "finetune"
    assert found["rates"][0] == pytest.approx(1e-6)
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"]) <= 30
    assert 1e-7 <= found["suggestion"] <= 0.1
    with Image.open(curve) as image:
        assert image.format == "PNG"
    assert sorted(tmp_path.iterdir()) == [curve]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(
            {"regime": "large", "balance": "sampling", "mixup": 0.2}, marks=pytest.mark.full
        ),
        {"freeze": "last=2", "balance": "weights"},
    ],
    ids=["streamed", "kept"],
)
def test_whatever_is_asked_of_training_is_found_a_rate_for(image_folder, asked):
    """Augmented and mixed, balanced, with smoothing, rates by block and averages."""
    options = {"block_decay": 0.5, "label_smoothing": 0.1, "ema": 0.5}
    found = tlkit.lr_find(
        image_folder, steps=10, progress=False, **TINY, **asked, optimizer=options
    )
    assert len(found.losses) >= 3
    assert found.suggestion > 0


def test_a_budget_has_no_rate(image_folder):
    with pytest.raises(SpecError, match="budget: lr-find is for one phase.*Received: 60"):
        tlkit.lr_find(image_folder, budget="1m", progress=False, backbone="MobileNet")


def test_a_run_without_a_fitted_phase_has_no_rate(image_folder):
    with pytest.raises(SpecError, match="solves the head, which has no learning rate"):
        tlkit.lr_find(image_folder, regime="small", progress=False, **TINY)


def test_the_curve_must_be_a_png_in_a_folder(image_folder, tmp_path):
    with pytest.raises(SpecError, match="--out: must be a PNG file in a folder that exists"):
        tlkit.lr_find(image_folder, out=tmp_path / "none" / "a.png", progress=False)
