"""Every recipe: its head comment keeps what it promises, it is a valid spec, it runs to its end."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from test_localisation import write_boxes

from tlkit.backbones.catalog import CATALOG
from tlkit.cli.main import main
from tlkit.cli.quickstart import QUICKSTART
from tlkit.spec.read import make_spec, read_recipe

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request):
    return request.param


def head_comment(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def test_there_are_recipes():
    assert len(RECIPES) >= 4


def test_the_recipe_is_a_valid_spec(recipe):
    spec = make_spec(read_recipe(recipe))
    assert make_spec(yaml.safe_load(spec.to_yaml())) == spec


def test_the_head_comment_holds_the_command(recipe):
    commands = [line for line in head_comment(recipe) if line.startswith("tlkit train ")]
    assert commands, "no line with the command"
    words = shlex.split(commands[0])
    assert words[words.index("--recipe") + 1] == f"recipes/{recipe.name}"


def test_the_head_comment_tells_result_time_and_hardware(recipe):
    text = " ".join(head_comment(recipe))
    for word in ("Expected", "Time", "Hardware"):
        assert word in text
    assert "TODO" not in text


@pytest.mark.parametrize(
    "recipe",
    [
        path if path.stem == "last-blocks" else pytest.param(path, marks=pytest.mark.full)
        for path in RECIPES
    ],
    ids=lambda path: path.stem,
)
def test_the_recipe_runs_to_its_end(recipe, image_folder, tmp_path):
    """Shortened: random weights, tiny images, two epochs."""
    spec = make_spec(read_recipe(recipe))
    backbone, boxes = spec.backbone.name, spec.task == "localisation"
    settings = ["backbone.weights=none", "image_size=32", "batch_size=36", "epochs=2"]
    if "alpha" in CATALOG[backbone].arguments:
        settings.append("backbone.alpha=0.35")
    arguments = [
        "train",
        str(write_boxes(tmp_path / "boxes", 12) if boxes else image_folder),
        "--recipe",
        str(recipe),
        "--out",
        str(tmp_path / "run"),
    ]
    for setting in settings:
        arguments += ["--set", setting]
    result = CliRunner().invoke(main, [*arguments, "--test", "0", "--json"])
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)
    asked = read_recipe(recipe)
    assert metrics["regime"] == asked["regime"]
    assert metrics["backbone"] == backbone
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    for phase in plan["phases"]:
        assert phase["batchnorm"] == asked.get("batchnorm", phase["batchnorm"])
        if phase["method"] == "fit":
            rate = asked.get("optimizer", {}).get("learning_rate", phase["learning_rate"])
            assert phase["learning_rate"] == rate
            rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
            assert sum(row.startswith(f"{phase['name']},") for row in rows) == 2


def test_the_quickstart_recipe_is_what_the_command_does():
    assert read_recipe(FOLDER / "quickstart.yaml") == QUICKSTART
