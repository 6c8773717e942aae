"""An option that was given and can have no effect is refused, or noted once the data are known."""

from __future__ import annotations

import typing
from typing import Annotated

import pytest
import yaml
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.spec.idle import INSTEAD, taken, takes
from tlkit.spec.read import asked_spec, make_spec, merge
from tlkit.spec.run import RunSpec

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
        (
            ["backbone.weights=none", "augmented_copies=2"],
            "augmented_copies",
            "all is trained from the start",
        ),
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
        [SMALL, "augmented_copies=3", "augment=light", "head.solver=lbfgs"],
        [SMALL, "head.hidden=[8]", "head.activation=tanh", "head.batchnorm=true"],
        [SMALL, "mirror=false", "balance=weights", "head.strength=folds", "batchnorm=frozen"],
        ["optimizer.learning_rate=0.1", "epochs=3", "augment=light"],  # regime auto: it depends
        ["optimizer.plateau_factor=0.5", "optimizer.warmup=0.3", "optimizer.momentum=0.5"],
        [MEDIUM, "optimizer.warmup=0.3", "optimizer.block_decay=0.8", "batchnorm=train"],
        [MEDIUM, "head.solver=fit", "optimizer.plateau_factor=0.5"],  # the head's own phase
        [MEDIUM, "epochs=3", "head.strength=folds"],
        ["freeze=last=2", "optimizer.momentum=0.5", "batchnorm=affine"],
        ["backbone.weights=none", SMALL, "cache_size=3", "augmented_copies=1"],
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


def test_what_only_the_data_tell_is_noted_beside_the_plan(image_folder, capsys):
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": "imagenet"}, "image_size": 128}
    plan = tlkit.plan(image_folder, optimizer={"learning_rate": 0.1}, batchnorm="train", **fields)
    assert plan.regime.value == "small"
    said = capsys.readouterr().out
    assert "note      batchnorm: has no effect: the whole backbone is frozen." in said
    assert "note      optimizer.learning_rate: has no effect: the head is all" in said
    tlkit.plan(image_folder, epochs=2, optimizer={"learning_rate": 0.1}, **fields)
    assert "note" not in capsys.readouterr().out


# Commands that go by some of the options


def leaves(part=RunSpec, before=""):
    """Yield the names of all options, such as `head.dropout`."""
    for name, field in part.model_fields.items():
        inner = field.annotation
        inner = typing.get_args(inner)[0] if typing.get_origin(inner) is Annotated else inner
        if hasattr(inner, "model_fields"):
            yield from leaves(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}"


OTHERS = {
    **{"data": "elsewhere", "task": "regression", "class_names": "[a, b]", "val": "0.3"},
    **{"test": "0.3", "group": "'[0-9]+'", "rare": "drop", "strict": "true", "out": "there"},
    **{
        "near_duplicates": "true",
        "image_size": "64",
        "resize": "letterbox",
        "alpha": "drop",
        "bits": "8",
    },
    **{"normalize": "dataset", "regime": "medium", "freeze": "last=2", "batchnorm": "train"},
    **{
        "augment": "light",
        "augmented_copies": "1",
        "mirror": "false",
        "mixup": "0.2",
        "cutmix": "1",
    },
    **{"balance": "weights", "epochs": "3", "budget": "2m", "batch_size": "8"},
    **{"cache_size": "1", "seed": "3", "init": "first", "device": "cpu", "precision": "float32"},
    **{"engine": "keras", "deterministic": "true"},
    **{"mask_values": "[0=a, 1=b]", "decoder.kind": "deconv", "decoder.channels": "32"},
    **{"detector.kind": "rcnn", "detector.channels": "32"},
    **{"table.image": "x", "table.folder": "x", "table.outside": "true", "table.label": "x"},
    **{"table.separator": "/", "table.group": "x", "table.targets": "[a, b]"},
    **{"table.unlabelled": "drop", "table.uncertain": "negative"},
    **{"table.delimiter": ";", "table.encoding": "cp1252"},
    **{"backbone.name": "VGG16", "backbone.weights": "none", "backbone.alpha": "0.5"},
    **{"backbone.cut": "x", "backbone.preprocessing": "tf"},
    **{"head.pooling": "max", "head.hidden": "[8]", "head.activation": "tanh"},
    **{"head.batchnorm": "true", "head.initializer": "he_normal", "head.l2": "0.1"},
    **{"head.bias": "zeros", "head.dropout": "0.5", "head.solver": "fit", "head.refit": "true"},
    **{"head.strength": "folds", "optimizer.name": "adam", "optimizer.learning_rate": "0.1"},
    **{"optimizer.momentum": "0.5", "optimizer.weight_decay": "0.1"},
    **{"optimizer.block_decay": "0.5", "optimizer.label_smoothing": "0.1"},
    **{"optimizer.ema": "0.9", "optimizer.schedule": "constant", "optimizer.warmup": "0.2"},
    **{"optimizer.plateau_factor": "0.5", "optimizer.plateau_patience": "4"},
    **{"optimizer.steps_per_execution": "2", "optimizer.patience": "2"},
}
"""Of each option a value that is not its default."""

COMMANDS = {
    "data scan": ["nowhere"],
    "data prepare": ["nowhere", "out"],
    "data preview": ["nowhere"],
    "compare": ["nowhere", "--backbones", "MobileNetV2,ResNet50"],
    "lr-find": ["nowhere"],
}


def test_of_every_option_there_is_another_value():
    assert set(leaves()) == set(OTHERS)


@pytest.mark.parametrize("name", OTHERS)
def test_no_command_takes_an_option_that_it_does_not_go_by(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, arguments in COMMANDS.items():
        asked = [*command.split(), *arguments, "--set", f"{name}={OTHERS[name]}"]
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 2, (asked, result.output, result.exception)
        assert result.stderr.count("tlkit: ") == 1
        if name in ("backbone.cut", "backbone.preprocessing"):
            assert "belongs to a model of your own" in result.stderr
            continue
        if name in ("mask_values", "decoder.kind", "decoder.channels"):
            assert "belongs to the task segmentation" in result.stderr
            continue
        if name.startswith("detector."):
            assert "belongs to the task detection" in result.stderr
            continue
        words = "says it. Allowed: left out." if command in INSTEAD else f"tlkit {command} trains"
        refused = f"{name}: has no effect: " in result.stderr and words in result.stderr
        assert refused != takes(command, name), (asked, result.stderr)
    assert not list(tmp_path.iterdir())


def test_commands_that_train_nothing_take_values_of_masks_and_no_decoder(tmp_path):
    task = ["--set", "task=segmentation"]
    for name, word in (("mask_values", "does not exist"), ("decoder.kind", "has no effect: tlkit")):
        asked = ["data", "scan", str(tmp_path / "no"), *task, "--set", f"{name}={OTHERS[name]}"]
        assert word in CliRunner().invoke(main, asked).stderr


def test_python_refuses_them_too(tmp_path):
    with pytest.raises(
        SpecError, match=r"epochs: has no effect: tlkit data prepare trains nothing"
    ):
        tlkit.prepare_data("nowhere", tmp_path / "out", epochs=3)
    with pytest.raises(SpecError, match=r"head\.l2: has no effect: tlkit data preview trains"):
        tlkit.preview("nowhere", tmp_path / "seen.png", head={"l2": 0.1})
    with pytest.raises(SpecError, match=r"backbone\.name: has no effect: --backbones says it"):
        tlkit.compare("nowhere", "MobileNetV2", backbone="ResNet50")


@pytest.mark.parametrize(
    ("fields", "kept", "others"),
    [
        ({"epochs": 3, "augment": "light"}, {"augment": "light"}, ["epochs"]),
        ({"head": {"l2": 0.1}, "seed": 3}, {"seed": 3}, ["head.l2"]),
        ({"backbone": "VGG16", "out": "x"}, {"backbone": "VGG16"}, ["out"]),
        ({"table": {"image": "x"}, "batch_size": 8}, {"table": {"image": "x"}}, ["batch_size"]),
        ({}, {}, []),
    ],
)
def test_of_a_recipe_the_rest_is_left_aside(fields, kept, others):
    assert taken(fields, "data preview") == (kept, others)
    assert taken(fields, "train") == (fields, [])


def test_what_is_left_aside_of_a_recipe_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: 3\nout: there\nbackbone: VGG16\nval: 0.15\nhead: {l2: 0.1}\n")
    said = {
        command: CliRunner().invoke(main, [*command.split(), *rest, "--recipe", "mine.yaml"]).stderr
        for command, rest in COMMANDS.items()
        if command not in ("data scan", "data prepare")
    }
    note = "note      mine.yaml: not of use in tlkit"
    assert f"{note} data preview: epochs, out, head.l2\n" in said["data preview"]
    assert f"{note} compare: out, backbone\n" in said["compare"]
    assert f"{note} lr-find: out\n" in said["lr-find"]
    assert all("data nowhere: does not exist" in text for text in said.values())


def test_a_recipe_that_is_wrong_is_refused_whatever_is_left_aside(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("epochs: many\n")
    result = CliRunner().invoke(main, ["data", "preview", "nowhere", "--recipe", str(recipe)])
    assert result.exit_code == 2
    assert "mine.yaml: epochs: should be a valid integer" in result.stderr
