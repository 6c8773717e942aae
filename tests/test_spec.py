"""The spec: what it takes, how it says no, how recipes and settings are merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tlkit.errors import SpecError, did_you_mean
from tlkit.spec.read import make_spec, merge, read_recipe
from tlkit.spec.run import RunSpec
from tlkit.spec.task_options import TASK_OPTIONS
from tlkit.tasks.registry import TASKS

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def message_of(fields: dict, where: str = "the options") -> str:
    with pytest.raises(SpecError) as caught:
        make_spec(fields, where)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_empty_spec_is_whole():
    spec = make_spec({})
    assert (spec.backbone.name, spec.backbone.weights) == ("MobileNetV2", "imagenet")
    assert (spec.val, spec.test, spec.regime, spec.freeze) == (0.15, 0.15, "auto", "auto")


def test_all_problems_are_named_at_once():
    text = message_of(
        {
            "regim": "small",
            "image_size": -1,
            "head": {"droput": 0.1, "dropout": 1.5, "hidden": [0]},
            "optimizer": {"name": "adamw"},
            "backbone": {"name": "MobilNetV2"},
            "val": 1.5,
        }
    )
    assert text.startswith("the options: 8 problems:")
    for place in (
        "regim: unknown option. Did you mean 'regime'?",
        "image_size: ",
        "head.droput: unknown option. Did you mean 'dropout'?",
        "head.dropout: should be less than 1. Received: 1.5",
        "head.hidden.0: ",
        "optimizer.name: should be 'auto', 'sgd' or 'adam'. Received: 'adamw'",
        "backbone.name: Unknown backbone. Did you mean 'MobileNetV2'?",
        "val: is a share of the data or a folder. Allowed: above 0 to below 1. Received: 1.5",
    ):
        assert f"\n  {place}" in text
    assert "Traceback" not in text
    assert "pydantic" not in text


def test_one_problem_is_one_line_that_says_where():
    text = message_of({"epochs": 0}, "recipe mine.yaml")
    assert text.startswith("recipe mine.yaml: epochs: should be greater than 0. Received: 0")
    assert "\n" not in text


def test_an_unknown_option_lists_what_is_allowed_at_its_place():
    text = message_of({"head": {"units": 3}})
    assert "Allowed: pooling, hidden, activation, batchnorm, " in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"regime": "big"}, "regime: should be 'auto', 'small', 'medium' or 'large'"),
        ({"precision": "int8"}, "precision: should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ({"device": "tpu"}, "device: should match pattern"),
        ({"seed": -1}, "seed: should be greater than or equal to 0. Received: -1"),
        ({"batch_size": "many"}, "batch_size: should be a valid integer"),
        (
            {"head": {"pooling": "sum"}},
            "head.pooling: should be 'avg', 'max', 'concat' or 'gem'. Received: 'sum'",
        ),
        ({"head": 3}, "head: "),
        ({"val": True}, "val: should be a share or a folder. Received: True"),
        ({"val": [1]}, "val: should be a share or a folder. Received: [1]"),
        ({"val": None}, "val: should be a share or a folder. Received: None"),
        ({"val": 0}, "val: is a share of the data or a folder. Allowed: above 0 to below 1"),
        ({"test": -0.1}, "test: is a share of the data or a folder. Allowed: 0 to below 1"),
        ({"test": 1}, "test: is a share of the data or a folder. Allowed: 0 to below 1"),
        ({"val": 0.9, "test": 0.5}, "Received: val 0.9 and test 0.5"),
        (
            {"image_size": 31},
            "image_size: too small for MobileNetV2. Allowed: 32 pixels or more. Received: 31",
        ),
        ({"backbone": {"name": "VGG16", "alpha": 1}}, "backbone.alpha: VGG16 has none"),
        (
            {"backbone": {"name": "MobileNet", "alpha": 0.3}},
            "no ImageNet weights of MobileNet for it. Allowed: 0.25, 0.5, 0.75, 1.0. Received: 0.3",
        ),
        (
            {"head": {"solver": "lbfgs", "hidden": [8]}},
            "head.solver: lbfgs solves a linear head only. Allowed with hidden layers: auto, fit. "
            "Received: lbfgs with hidden [8]",
        ),
    ],
)
def test_a_bad_value_is_said_with_place_and_what_was_received(fields, words):
    assert words in message_of(fields)


def test_problems_of_the_whole_are_found_next_to_those_of_single_fields():
    text = message_of({"head": {"solver": "lbfgs", "hidden": [8]}, "regime": "big"})
    assert "2 problems" in text
    assert "head.solver" in text
    assert "regime" in text


def test_alpha_without_published_weights_is_fine_for_random_ones():
    spec = make_spec({"backbone": {"name": "MobileNet", "alpha": 0.3, "weights": "none"}})
    assert spec.backbone.alpha == 0.3


def test_smallest_image_size_is_allowed():
    assert make_spec({"image_size": 32}).size == 32


def test_size_is_the_backbones_own_by_default():
    assert make_spec({}).size == 224


@pytest.mark.parametrize(
    ("given", "kept"),
    [("0.2", 0.2), (0.2, 0.2), (Path("photos"), "photos"), ("photos", "photos"), ("0", 0.0)],
)
def test_test_data_is_a_share_or_a_folder(given, kept):
    spec = make_spec({"test": given})
    assert spec.test == kept
    assert type(spec.test) is type(kept)


def test_a_val_folder_leaves_the_test_share_alone():
    assert make_spec({"val": "photos", "test": 0.95}).test == 0.95


def test_a_name_alone_stands_for_backbone_and_optimizer():
    spec = make_spec({"backbone": "VGG16", "optimizer": "adam"})
    assert (spec.backbone.name, spec.optimizer.name) == ("VGG16", "adam")


def test_yaml_there_and_back_is_the_same():
    spec = make_spec(
        {
            "data": "bilder/grün",
            "val": "other",
            "test": 0,
            "backbone": {"name": "MobileNet", "alpha": 0.5},
            "head": {"hidden": [64, 32], "dropout": 0.0},
            "optimizer": {"name": "adam", "learning_rate": 1e-5},
            "freeze": "until=block_9,-re=.*_bn",
        }
    )
    text = spec.to_yaml()
    assert make_spec(yaml.safe_load(text)) == spec
    assert "grün" in text


def test_yaml_writes_every_default_out():
    assert set(yaml.safe_load(make_spec({}).to_yaml())) == set(RunSpec.model_fields)


def options_of_schema() -> list[tuple[str, dict]]:
    schema = RunSpec.model_json_schema()
    models = {"RunSpec": schema, **schema["$defs"]}
    return [(f"{m}.{n}", o) for m, s in models.items() for n, o in s["properties"].items()]


@pytest.mark.parametrize(("name", "option"), options_of_schema())
def test_every_option_has_description_and_source(name, option):
    assert len(option.get("description", "")) > 10, name
    assert option.get("source"), name


def test_schema_forbids_unknown_options():
    schema = RunSpec.model_json_schema()
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values())


def test_merge_reads_values_as_yaml_and_reaches_nested_fields():
    settings = ["head.dropout=0.5", "head.hidden=[8, 4]", "image_size=", "out=a=b"]
    merged = merge({"head": {"pooling": "max"}}, settings)
    assert merged == {
        "head": {"pooling": "max", "dropout": 0.5, "hidden": [8, 4]},
        "image_size": None,
        "out": "a=b",
    }


def test_merge_lets_the_last_win_and_leaves_its_input_alone():
    fields = {"head": {"dropout": 0.1}}
    assert merge(fields, ["head.dropout=0.2", "head.dropout=0.3"])["head"]["dropout"] == 0.3
    assert fields == {"head": {"dropout": 0.1}}


def test_merge_keeps_a_name_given_alone():
    merged = merge({"backbone": "MobileNet"}, ["backbone.alpha=0.25"])
    assert merged == {"backbone": {"name": "MobileNet", "alpha": 0.25}}


def test_a_setting_inside_a_plain_option_is_refused_by_the_spec():
    assert "seed" in message_of(merge({"seed": 3}, ["seed.x=1"]))


@pytest.mark.parametrize("setting", ["epochs", "=3", " =3"])
def test_merge_refuses_a_setting_without_key_and_value(setting):
    with pytest.raises(SpecError, match="write key=value, such as head.dropout=0.5") as caught:
        merge({}, [setting])
    assert repr(setting) in str(caught.value)


def test_merge_refuses_a_value_that_is_no_yaml():
    with pytest.raises(SpecError, match="--set head.hidden: the value is not YAML"):
        merge({}, ["head.hidden=[1, 2"])


def test_recipe_missing(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read: No such file"):
        read_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- a\n- b\n", "must be a mapping of options. Received: list"),
        (b"", "must be a mapping of options. Received: NoneType"),
        (b"just words", "must be a mapping of options. Received: str"),
    ],
)
def test_recipe_that_cannot_be_used(tmp_path, content, words):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content)
    with pytest.raises(SpecError, match=r"recipe\.yaml: ") as caught:
        read_recipe(recipe)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_in_the_repository_hold(recipe):
    assert make_spec(read_recipe(recipe))


@pytest.mark.parametrize(
    ("word", "answer"),
    [("resnet5", " Did you mean 'ResNet50'?"), ("VGG61", " Did you mean 'VGG16'?"), ("xyz", "")],
)
def test_did_you_mean(word, answer):
    assert did_you_mean(word, ["ResNet50", "VGG16"]) == answer


def test_every_task_says_what_options_mean_for_it():
    assert set(TASK_OPTIONS) == set(TASKS)
    for task, options in TASK_OPTIONS.items():
        for name in options.refused:
            field, _, inner = name.partition(".")
            found = RunSpec.model_fields[field].get_default(call_default_factory=True)
            assert not inner or hasattr(found, inner), (task, name)
