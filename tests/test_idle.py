"""An option that was given and can have no effect is refused, or noted once the data are known."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.recipe import asked_spec, make_spec, merge

SMALL, MEDIUM = "regime=small", "regime=medium"


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ([SMALL, "optimizer.learning_rate=0.1"], "optimizer.learning_rate", "it is solved"),
        ([SMALL, "optimizer=adam"], "optimizer.name", "it is solved"),
        ([SMALL, "optimizer.ema=0.9"], "optimizer.ema", "it is solved"),
        ([SMALL, "head.dropout=0.5"], "head.dropout", "Allowed: head.solver=fit, or a regime"),
        ([SMALL, "head.l2=0.1"], "head.l2", "it is solved"),
        ([SMALL, "head.bias=zeros"], "head.bias", "it is solved"),
        (["freeze=all", "head.initializer=he_normal"], "head.initializer", "it is solved"),
        ([SMALL, "head.solver=lbfgs", "augment=light"], "augment", "it is solved"),
        ([SMALL, "head.solver=lbfgs", "mixup=0.2"], "mixup", "it is solved"),
        (["head.activation=tanh"], "head.activation", "it belongs to hidden layers"),
        (["head.batchnorm=true"], "head.batchnorm", "Allowed: with head.hidden"),
        (["head.hidden=[8]", "head.strength=folds"], "head.strength", "fitted, not solved"),
        (["head.solver=fit", "head.strength=validation"], "head.strength", "fitted, not solved"),
        ([SMALL, "epochs=3", "head.strength=folds"], "head.strength", "fitted, not solved"),
        (["optimizer=adam", "optimizer.momentum=0.5"], "optimizer.momentum", "adam has none"),
        ([SMALL, "epochs=3", "optimizer.momentum=0.5"], "optimizer.momentum", "adam has none"),
        (
            ["optimizer.schedule=cosine", "optimizer.plateau_factor=0.5"],
            "optimizer.plateau_factor",
            "the schedule is cosine. Allowed: with plateau",
        ),
        (
            ["optimizer.schedule=constant", "optimizer.plateau_patience=5"],
            "optimizer.plateau_patience",
            "the schedule is constant",
        ),
        ([MEDIUM, "optimizer.plateau_patience=5"], "optimizer.plateau_patience", "cosine"),
        (["budget=2m", "optimizer.plateau_factor=0.5"], "optimizer.plateau_factor", "cosine"),
        (
            ["optimizer.schedule=plateau", "optimizer.warmup=0.3"],
            "optimizer.warmup",
            "the schedule is plateau. Allowed: with cosine",
        ),
        ([SMALL, "epochs=3", "optimizer.warmup=0.3"], "optimizer.warmup", "plateau"),
        ([SMALL, "epochs=3", "optimizer.block_decay=0.8"], "optimizer.block_decay", "is frozen"),
        ([SMALL, "batchnorm=train"], "batchnorm", "the whole backbone is frozen"),
        (["freeze=all", "batchnorm=affine"], "batchnorm", "the whole backbone is frozen"),
        (["backbone=VGG16", "batchnorm=train"], "batchnorm", "VGG16 has no BatchNorm"),
        (["backbone=ConvNeXtTiny", "batchnorm=affine"], "batchnorm", "has no BatchNorm"),
        (["backbone.weights=none", "views=3"], "views", "all is trained from the start"),
        (["backbone.weights=none", "cache_size=3"], "cache_size", "all is trained from the start"),
    ],
)
def test_an_option_without_effect_is_refused(settings, name, words):
    with pytest.raises(SpecError) as caught:
        asked_spec(merge({}, settings))
    text = str(caught.value)
    assert text.startswith(f"the options: {name}: has no effect: ")
    assert words in text
    assert " Received: " in text
    assert make_spec(merge({}, settings))  # a run that has it can still be opened


@pytest.mark.parametrize(
    "settings",
    [
        [SMALL, "epochs=3", "optimizer.learning_rate=0.1"],
        [SMALL, "head.solver=fit", "optimizer.ema=0.9", "head.dropout=0.5"],
        [SMALL, "augment=light", "optimizer.patience=3"],
        [SMALL, "views=4", "augment=light", "head.solver=lbfgs"],
        [SMALL, "head.hidden=[8]", "head.activation=tanh", "head.batchnorm=true"],
        [SMALL, "mirror=false", "balance=weights", "head.strength=folds", "batchnorm=frozen"],
        ["optimizer.learning_rate=0.1", "epochs=3", "augment=light"],  # regime auto: it depends
        ["optimizer.plateau_factor=0.5", "optimizer.warmup=0.3", "optimizer.momentum=0.5"],
        [MEDIUM, "optimizer.warmup=0.3", "optimizer.block_decay=0.8", "batchnorm=train"],
        [MEDIUM, "head.solver=fit", "optimizer.plateau_factor=0.5"],  # the head's own phase
        [MEDIUM, "epochs=3", "head.strength=folds"],
        ["freeze=last=2", "optimizer.momentum=0.5", "batchnorm=affine"],
        ["backbone.weights=none", SMALL, "cache_size=3", "views=2"],
        ["optimizer=adam", "optimizer.weight_decay=0.01"],
        ["optimizer=adam", "optimizer.momentum=0.9", "head.activation=relu"],  # as by default
        ["backbone=m:f", "batchnorm=train"],
    ],
)
def test_an_option_with_an_effect_is_taken(settings):
    assert asked_spec(merge({}, settings))


def test_callbacks_have_a_head_fitted():
    fields = {"regime": "small", "optimizer": {"learning_rate": 0.1}}
    assert asked_spec(fields, callbacks=True)
    with pytest.raises(SpecError, match=r"optimizer\.learning_rate: has no effect"):
        asked_spec(fields)


@pytest.mark.parametrize("regime", ["auto", "small", "medium"])
def test_the_spec_of_a_run_may_be_used_as_a_recipe(regime):
    written = yaml.safe_load(make_spec({"regime": regime}).to_yaml())
    assert asked_spec(written).regime == regime


def test_several_are_named_at_once():
    fields = {"regime": "small", "optimizer": {"ema": 0.9}, "head": {"activation": "tanh"}}
    with pytest.raises(SpecError, match=r"mine\.yaml: 2 problems:\n  head.activation: .*\n  opt"):
        asked_spec(fields, "mine.yaml")


def test_train_and_plan_refuse_it_before_data_are_read():
    for command in ("train", "plan", "lr-find"):
        asked = [command, "nowhere", "--set", "head.activation=tanh"]
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 2
        assert "tlkit: the options: head.activation: has no effect" in result.stderr
    with pytest.raises(SpecError, match=r"head\.activation: has no effect"):
        tlkit.train("nowhere", head={"activation": "tanh"})


def test_what_only_the_data_tell_is_noted_beside_the_plan(pictures, capsys):
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": "imagenet"}, "image_size": 128}
    plan = tlkit.plan(pictures, optimizer={"learning_rate": 0.1}, batchnorm="train", **fields)
    assert plan.regime.value == "small"
    said = capsys.readouterr().out
    assert "note      batchnorm: has no effect: the whole backbone is frozen." in said
    assert "note      optimizer.learning_rate: has no effect: the head is all" in said
    tlkit.plan(pictures, epochs=2, optimizer={"learning_rate": 0.1}, **fields)
    assert "note" not in capsys.readouterr().out
