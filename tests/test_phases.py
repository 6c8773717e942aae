"""The plan of a run: regime, freeze rule, phases and their methods, from hand-made layers."""

from __future__ import annotations

import json

import pytest

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import FreezeError, RunFolderError, SpecError
from tlkit.planning.make import make_plan, revised
from tlkit.planning.phases import TrainPlan
from tlkit.runfolder.folder import RunFolder
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
def test_images_are_changed_at_random_where_nothing_frozen_is_lost(fields, augment):
    plan = planned(5_000, **fields)
    assert plan.phases[-1].augment is augment
    assert not plan.phases[0].augment


def test_a_solved_head_never_sees_augmented_images():
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
    assert (head["keeps_features"], finetune["keeps_features"]) == (True, True)
    assert finetune["epochs"] == 4
    assert finetune["cut"] == "block_5"
    assert [b["state"] for b in finetune["blocks"]] == ["frozen"] * 6 + ["trained"] * 2


# Which features are kept


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"regime": "small"}, [True]),
        ({"regime": "small", "augment": "light"}, [False]),
        ({"regime": "medium"}, [True, True]),
        ({"regime": "medium", "augment": "light"}, [True, False]),
        ({"regime": "medium", "augment": "light", "augmented_copies": 1}, [True, True]),
        ({"regime": "medium", "mixup": 0.2}, [True, False]),
        ({"regime": "large"}, [True, False]),
        ({"freeze": "re=block_3_.*"}, [True, False]),
        ({"budget": "2m"}, [True, True, True, True, False]),
    ],
)
def test_the_plan_says_which_phases_train_on_kept_features(fields, kept):
    assert [phase.keeps_features for phase in planned(5_000, **fields).phases] == kept


# A plan read again


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"regime": "medium", "balance": "weights", "batchnorm": "affine"},
        {"regime": "large", "augment": "strong", "mixup": 0.2},
        {"freeze": "until=block_2,-re=.*_bn", "augmented_copies": 2, "epochs": 7},
        {"regime": "small", "head": {"hidden": [8]}, "optimizer": {"learning_rate": 0.3}},
        {"budget": "2m"},
        {"backbone": {"name": "MobileNet", "weights": "none"}},
    ],
)
def test_a_plan_is_read_as_it_was_written(fields):
    plan = planned(5_000, **fields)
    assert TrainPlan.from_json(json.loads(json.dumps(plan.to_json())), LAYERS) == plan


BEFORE = """
{
  "regime": "medium", "reason": "5,000 training examples", "examples": 5000, "classes": 4,
  "phases": [
    {
      "name": "head", "method": "solve", "freeze": "all", "cut": "block_7",
      "batchnorm": "frozen", "augment": false, "views": 2, "reasons": ["first"], "blocks": []
    },
    {
      "name": "finetune", "method": "fit", "freeze": "last=3", "cut": "block_4",
      "batchnorm": "affine", "augment": false, "views": 2,
      "epochs": 11, "optimizer": "adam", "learning_rate": 0.25, "schedule": "plateau",
      "reasons": ["then"], "blocks": []
    },
    {
      "name": "finetune-2", "method": "fit", "freeze": "none", "cut": null,
      "batchnorm": "affine", "augment": true,
      "epochs": 2, "optimizer": "sgd", "learning_rate": 1, "schedule": "constant",
      "reasons": [], "blocks": []
    }
  ],
  "estimate": {"seconds": [1, 2.5], "phases": []}
}
"""
"""The plan.json of a version that wrote no `keeps_features`; nothing in it is as rules are now."""


def test_a_plan_of_the_version_before_is_followed(tmp_path):
    (tmp_path / "plan.json").write_text(BEFORE)
    plan = TrainPlan.from_json(RunFolder(tmp_path).read_json("plan.json"), LAYERS)
    assert (plan.regime.value, plan.examples, plan.classes, plan.views) == ("medium", 5000, 4, 2)
    assert plan.estimate["seconds"] == [1, 2.5]
    head, finetune, deeper = plan.phases
    assert head.freeze.all_frozen
    assert (head.method, head.views, head.reasons) == ("solve", 2, ("first",))
    assert (finetune.freeze.cut, finetune.freeze.batchnorm) == ("block_4", "affine")
    assert (finetune.epochs, finetune.optimizer) == (11, "adam")
    assert (finetune.learning_rate, finetune.schedule) == (0.25, "plateau")
    assert (deeper.freeze.frozen, deeper.augment, deeper.views) == (frozenset(), True, 1)
    assert [phase.keeps_features for phase in plan.phases] == [True, True, False]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"medium"', '"middle"', "regime: Input should be 'small', 'medium' or 'large'"),
        ('"epochs": 11, ', "", "phases.1.fit.epochs: Field required"),
        ("0.25", "-1", "phases.1.fit.learning_rate: Input should be greater than 0"),
        ('"augment": true', '"augment": 1', "phases.2.fit.augment: Input should be a valid boo"),
        ('"solve"', '"guess"', "phases.0: Input tag 'guess' found using 'method' does not match"),
    ],
)
def test_a_plan_of_other_values_is_damaged(tmp_path, old, new, words):
    (tmp_path / "plan.json").write_text(BEFORE.replace(old, new))
    with pytest.raises(RunFolderError, match=f"plan.json is missing or unreadable: {words}"):
        RunFolder(tmp_path).read_json("plan.json")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"block_4"', '"block_5"', "finetune: cut block_5, this backbone gives block_4"),
        ('"freeze": "all"', '"freeze": "last=1"', "head: cut block_7, this backbone gives block_6"),
        ('"fit", "freeze": "none"', '"solve", "freeze": "none"', "finetune-2: method solve, but"),
        ("true,", 'true, "keeps_features": true,', "finetune-2: keeps_features, but there are no"),
        ("last=3", "until=blok_4", "Did you mean 'block_4'"),
    ],
)
def test_a_plan_that_contradicts_itself_or_the_backbone_is_not_followed(old, new, words):
    with pytest.raises((ValueError, FreezeError), match=words):
        TrainPlan.from_json(json.loads(BEFORE.replace(old, new)), LAYERS)


def test_what_was_asked_for_otherwise_alone_changes_a_plan():
    plan = TrainPlan.from_json(json.loads(BEFORE), LAYERS)
    began = {"epochs": 4, "optimizer": {"momentum": 0.8}}
    for now in (began, {**began, "optimizer": {}, "device": "cpu"}):
        assert revised(plan, make_spec(began), make_spec(now)) == plan
    now = {"epochs": 9, "optimizer": {"learning_rate": 0.5}}
    head, *fitted = revised(plan, make_spec(began), make_spec(now)).phases
    assert head == plan.phases[0]
    assert [(p.epochs, p.learning_rate) for p in fitted] == [(9, 0.5), (9, 0.5)]
    assert [(p.optimizer, p.schedule) for p in fitted] == [("adam", "plateau"), ("sgd", "constant")]


def test_rates_by_rule_follow_the_batch_size_and_others_do_not():
    for fields, rates in (({}, [5e-4]), ({"optimizer": {"learning_rate": 0.3}}, [0.3])):
        began = {"regime": "medium", "batch_size": 32, **fields}
        plan = revised(
            planned(5_000, **began), make_spec(began), make_spec({**began, "batch_size": 16})
        )
        assert [p.learning_rate for p in plan.phases if p.method == "fit"] == pytest.approx(rates)


def test_a_run_without_a_record_takes_the_fitted_values_of_its_spec():
    plan = TrainPlan.from_json(json.loads(BEFORE), LAYERS)
    _, finetune, _ = revised(plan, None, make_spec({"epochs": 3})).phases
    assert (finetune.epochs, finetune.optimizer, finetune.schedule) == (3, "sgd", "cosine")
    assert finetune.freeze == plan.phases[1].freeze


def test_what_a_solved_head_has_no_use_for_is_refused():
    plan, began = planned(500), make_spec({})
    with pytest.raises(SpecError, match="epochs: has no effect, the run's plan solves the head"):
        revised(plan, began, make_spec({"epochs": 3}))
    assert revised(plan, began, make_spec({"batch_size": 16})) == plan
