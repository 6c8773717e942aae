"""The plan of a run: regime, freeze rule, phases and their methods, from hand-made layers."""

from __future__ import annotations

import json

import pytest

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import FreezeError
from tlkit.planning.phases import TrainPlan, make_plan
from tlkit.spec.read import make_spec

LAYERS = tuple(
    LayerInfo(f"block_{n}_{kind}", f"block_{n}", 10, kind == "bn")
    for n in range(8)
    for kind in ("conv", "bn")
)


def planned(examples: int = 100, classes: int = 4, callbacks: bool = False, **fields) -> TrainPlan:
    return make_plan(make_spec(fields), LAYERS, examples, classes, callbacks)


def names(plan: TrainPlan) -> list[tuple[str, str]]:
    return [(phase.name, phase.method) for phase in plan.phases]


def test_small_data_solve_the_head_and_nothing_else():
    plan = planned(500)
    assert plan.regime.value == "small"
    assert names(plan) == [("head", "solve")]
    assert plan.phases[0].freeze.all_frozen


def test_medium_data_solve_the_head_then_train_the_last_quarter():
    plan = planned(5_000)
    assert plan.regime.value == "medium"
    assert names(plan) == [("head", "solve"), ("finetune", "fit")]
    assert plan.phases[0].freeze.all_frozen
    assert plan.phases[1].freeze.cut == "block_5"


def test_large_data_train_everything_after_the_head():
    plan = planned(50_000)
    assert plan.regime.value == "large"
    assert names(plan) == [("head", "solve"), ("finetune", "fit")]
    assert plan.phases[1].freeze.frozen == frozenset()


def test_a_regime_that_was_asked_for_wins_and_says_so():
    plan = planned(50, regime="medium")
    assert plan.regime.value == "medium"
    assert "as asked for" in plan.regime.reason
    assert plan.phases[-1].freeze.cut == "block_5"


def test_freeze_replaces_the_regimes_choice_of_layers():
    plan = planned(50, freeze="until=block_2")
    assert plan.regime.value == "small"
    assert names(plan) == [("head", "solve"), ("finetune", "fit")]
    assert plan.phases[-1].freeze.cut == "block_2"
    assert "as asked for" in plan.phases[-1].reasons[0]


def test_freeze_all_leaves_only_the_head_on_large_data():
    assert names(planned(50_000, freeze="all")) == [("head", "solve")]


def test_a_freeze_rule_that_matches_nothing_is_an_error():
    with pytest.raises(FreezeError, match="Did you mean 'block_7'"):
        planned(freeze="until=blok_7")


def test_random_weights_are_trained_from_scratch_in_one_phase():
    plan = planned(backbone={"name": "MobileNet", "weights": "none"})
    assert names(plan) == [("scratch", "fit")]
    phase = plan.phases[0]
    assert phase.freeze.frozen == frozenset()
    assert (phase.freeze.batchnorm, phase.augment) == ("train", True)
    assert (phase.optimizer, phase.schedule) == ("adam", "cosine")


def test_random_weights_stay_frozen_where_the_small_regime_is_asked_for():
    backbone = {"name": "MobileNet", "weights": "none"}
    assert names(planned(backbone=backbone, regime="small")) == [("head", "solve")]


def test_a_weights_file_counts_as_pretrained():
    assert planned(backbone={"weights": "mine.h5"}).regime.value == "small"


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        ({}, "solve"),
        ({"head": {"solver": "fit"}}, "fit"),
        ({"head": {"hidden": [8]}}, "fit"),
        ({"head": {"hidden": [8], "solver": "fit"}}, "fit"),
        ({"epochs": 3}, "fit"),
        ({"augment": "light"}, "fit"),
        ({"augment": "none"}, "solve"),
        ({"callbacks": True}, "fit"),
        ({"head": {"solver": "lbfgs"}, "epochs": 3}, "solve"),
        ({"head": {"solver": "lbfgs"}, "callbacks": True}, "solve"),
        ({"head": {"solver": "lbfgs"}, "augment": "light"}, "solve"),
    ],
)
def test_how_a_head_that_is_all_there_is_to_train_is_trained(fields, method):
    assert names(planned(500, **fields)) == [("head", method)]


@pytest.mark.parametrize("fields", [{"epochs": 3}, {"augment": "light"}, {"callbacks": True}])
def test_wishes_for_the_finetuning_do_not_keep_the_head_before_it_from_being_solved(fields):
    assert names(planned(5_000, **fields)) == [("head", "solve"), ("finetune", "fit")]


def test_hidden_layers_are_fitted_before_the_finetuning():
    plan = planned(5_000, head={"hidden": [8]})
    assert names(plan) == [("head", "fit"), ("finetune", "fit")]


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, "frozen"),
        ({"batchnorm": "affine"}, "affine"),
        ({"batchnorm": "train"}, "train"),
        ({"backbone": {"name": "MobileNet", "weights": "none"}}, "train"),
        ({"backbone": {"name": "MobileNet", "weights": "none"}, "batchnorm": "frozen"}, "frozen"),
    ],
)
def test_batchnorm_policy(fields, policy):
    assert planned(5_000, **fields).phases[-1].freeze.batchnorm == policy


@pytest.mark.parametrize(
    ("fields", "augment"),
    [
        ({"regime": "medium"}, False),
        ({"regime": "medium", "augment": "light"}, True),
        ({"regime": "large"}, True),
        ({"regime": "large", "augment": "none"}, False),
        ({"freeze": "none"}, True),
        ({"freeze": "until=block_0"}, False),
    ],
)
def test_pictures_are_changed_at_random_where_nothing_frozen_is_lost(fields, augment):
    plan = planned(5_000, **fields)
    assert plan.phases[-1].augment is augment
    assert not plan.phases[0].augment


def test_a_solved_head_never_sees_augmented_pictures():
    plan = planned(500, head={"solver": "lbfgs"}, augment="light")
    assert not plan.phases[0].augment


def test_rates_and_epochs_by_rule():
    phase = planned(5_000).phases[-1]
    assert (phase.optimizer, phase.schedule) == ("sgd", "cosine")
    assert phase.learning_rate == pytest.approx(1e-3)
    assert phase.epochs == 4
    assert any(reason.startswith("epochs: ") for reason in phase.reasons)
    assert any(reason.startswith("rate: ") for reason in phase.reasons)


def test_a_fitted_head_takes_adam_and_plateaus():
    phase = planned(500, epochs=7).phases[0]
    assert (phase.optimizer, phase.schedule, phase.epochs) == ("adam", "plateau", 7)


def test_options_of_the_optimizer_win():
    optimizer = {"name": "adam", "learning_rate": 0.5, "schedule": "constant"}
    phase = planned(5_000, epochs=2, optimizer=optimizer).phases[-1]
    assert (phase.optimizer, phase.learning_rate, phase.schedule) == ("adam", 0.5, "constant")
    assert phase.epochs == 2
    assert {"epochs: as asked for", "rate: as asked for"} <= set(phase.reasons)


def test_every_choice_has_a_reason():
    for plan in (planned(500), planned(5_000), planned(50_000)):
        assert plan.regime.reason
        assert all(reason for phase in plan.phases for reason in phase.reasons)


def test_describe_says_what_is_trained_and_how():
    head, finetune = planned(5_000).phases
    assert head.describe() == "the head on frozen features, solved"
    assert finetune.describe() == (
        "the head and all after block_5, sgd at 0.001 (cosine), at most 4 epochs"
    )
    assert planned(50_000).phases[1].describe().startswith("the head and the whole backbone, sgd")
    odd = planned(freeze="re=block_3_.*").phases[1]
    assert "re=block_3_.*" in odd.describe()


def test_plan_json():
    plan = json.loads(json.dumps(planned(5_000).to_json()))
    assert list(plan) == ["regime", "reason", "examples", "classes", "phases"]
    assert (plan["regime"], plan["examples"], plan["classes"]) == ("medium", 5_000, 4)
    head, finetune = plan["phases"]
    assert "epochs" not in head
    assert finetune["epochs"] == 4
    assert finetune["cut"] == "block_5"
    assert [b["state"] for b in finetune["blocks"]] == ["frozen"] * 6 + ["trained"] * 2
