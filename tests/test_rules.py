"""The rules: pure functions of the data set's size, each choice with its reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit.planning import rules

SIZES = st.integers(1, 10_000_000)


@pytest.mark.parametrize(
    ("examples", "regime"),
    [(2, "small"), (999, "small"), (1_000, "medium"), (19_999, "medium"), (20_000, "large")],
)
def test_regime_by_number_of_training_examples(examples, regime):
    choice = rules.choose_regime(examples, 2)
    assert choice.value == regime
    assert f"{examples:,}" in choice.reason


def test_regime_reason_says_how_many_a_class():
    assert "307 a class" in rules.choose_regime(3_068, 10).reason


def test_without_pretrained_weights_everything_is_trained():
    choice = rules.choose_regime(10, 2, pretrained=False)
    assert choice.value == "large"
    assert "no pretrained weights" in choice.reason


def test_blocks_by_regime():
    assert rules.blocks_to_train("small", 19).value == 0
    assert rules.blocks_to_train("medium", 19).value == 5
    assert rules.blocks_to_train("large", 19).value == 19


@given(st.integers(1, 500))
def test_more_data_never_trains_fewer_blocks(blocks):
    small, medium, large = (
        rules.blocks_to_train(regime, blocks).value for regime in ("small", "medium", "large")
    )
    assert 0 == small < medium <= large == blocks


@given(SIZES, st.sampled_from([1, 16, 32, 256]))
def test_finetuning_epochs_stay_inside_their_bounds(examples, batch_size):
    choice = rules.epochs("finetune", examples, batch_size)
    assert rules.MIN_EPOCHS <= choice.value <= rules.MAX_EPOCHS
    assert f"{choice.value * math.ceil(examples / batch_size):,} steps" in choice.reason


@given(SIZES, SIZES)
def test_more_examples_never_take_more_epochs(one, other):
    few, many = sorted((one, other))
    few, many = (rules.epochs("finetune", n, 32).value for n in (few, many))
    assert few >= many


def test_finetuning_aims_at_its_steps():
    examples = 3_200
    steps = rules.epochs("finetune", examples, 32).value * examples / 32
    assert steps == rules.FINETUNE_STEPS


@pytest.mark.parametrize("phase", ["head", "scratch"])
def test_epochs_of_other_phases_are_an_upper_bound(phase):
    assert rules.epochs(phase, 100, 32).value == rules.HEAD_EPOCHS


@pytest.mark.parametrize(
    ("phase", "optimizer", "rate"),
    [
        ("head", "adam", 1e-3),
        ("head", "sgd", 1e-2),
        ("scratch", "adam", 1e-3),
        ("finetune", "sgd", 1e-3),
        ("finetune", "adam", 1e-4),
    ],
)
def test_rates_at_a_batch_of_32(phase, optimizer, rate):
    choice = rules.learning_rate(phase, optimizer, 32)
    assert choice.value == pytest.approx(rate)
    assert choice.reason


@given(st.integers(1, 1024))
def test_the_finetuning_rate_grows_with_the_batch(batch_size):
    for optimizer, times in (("sgd", 4), ("adam", 2)):
        one = rules.learning_rate("finetune", optimizer, batch_size).value
        four = rules.learning_rate("finetune", optimizer, 4 * batch_size).value
        assert four == pytest.approx(times * one)
