"""What a run will take: estimated before, held against what it took."""

import json

import keras
import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.commands.estimate import Throughput, Work, work_of
from tlkit.features.cache import features_folder, list_entries
from tlkit.planning.freezing import plan_freeze
from tlkit.tasks.classification import Classification
from tlkit.tasks.localisation import Localisation

FIELDS = {**TINY, "regime": "medium", "epochs": 2, "freeze": "last=2", "progress": False}


def planned(image_folder, weights, **more):
    backbone = {**TINY["backbone"], "weights": weights}
    return tlkit.plan(image_folder, **{**FIELDS, "backbone": backbone, **more})


def test_both_speeds_count():
    machine = Throughput(multiply_adds=1e9, bytes=4e9)
    assert machine.seconds(Work(10**9, 0)) == machine.seconds(Work(0, 10**9)) > 0
    measured = Throughput.measure()
    assert measured.multiply_adds > 1e8
    assert measured.bytes > 1e8


def test_solving_a_box_costs_more_the_more_views_up_to_those_it_is_solved_of():
    few, more, most, beyond = (
        Localisation.solving(views, (7, 7, 1280)) for views in (500, 2000, 4096, 8192)
    )
    assert few[0] < more[0] / 8 < most[0] / 16
    assert most[0] == beyond[0]
    assert most[1] < beyond[1] < 2 * most[1]
    assert Classification.solving(500, (7, 7, 1280)) == (0, 0)


def test_a_cut_divides_the_work_and_loses_none():
    from tlkit.backbones.build import build_backbone

    built = build_backbone("MobileNet", 32, "none", 0.25)
    network = keras.Model(built.inputs, built.features)
    all_frozen = plan_freeze(built.layers, "all", "frozen")
    whole, nothing = work_of(network, all_frozen)
    below, above = work_of(network, plan_freeze(built.layers, "last=2", "frozen"))
    assert nothing == Work(0, 0)
    assert min(below.multiply_adds, above.multiply_adds) > 0
    assert below.multiply_adds + above.multiply_adds == whole.multiply_adds
    assert below.numbers + above.numbers == whole.numbers


def test_more_epochs_take_longer_and_no_more_room(image_folder, tiny_weights):
    few, many = (planned(image_folder, tiny_weights, epochs=n).estimate for n in (1, 1_000_000))
    assert [phase["name"] for phase in few["phases"]] == ["head", "finetune"]
    assert many["phases"][1]["seconds"][0] > 2 * few["phases"][1]["seconds"][1]
    assert many["disk"] == few["disk"]


def test_the_disk_of_features_is_that_of_the_cache(
    image_folder, tiny_weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    made = planned(image_folder, tiny_weights).estimate
    backbone = {**TINY["backbone"], "weights": tiny_weights}
    run = tlkit.train(image_folder, out=tmp_path / "run", **{**FIELDS, "backbone": backbone})
    kept = sum(entry.bytes for entry in list_entries(features_folder()))
    assert sum(phase["disk"] for phase in made["phases"]) == kept
    models = sum(f.stat().st_size for f in run.folder.rglob("*.keras"))
    assert 0.5 * models < made["disk"] - kept < models
    said = run.metrics["estimate"]
    assert said["seconds"] == run.plan["estimate"]["seconds"]
    assert said["took"] == run.metrics["seconds"]["total"]
    low, high = said["seconds"]
    assert said["ratio"] == pytest.approx(said["took"] / (low * high) ** 0.5, rel=0.01)


def test_the_command_shows_estimates(image_folder):
    options = ["--set", "backbone.alpha=0.25", "--set", "backbone.weights=none"]
    options += ["--backbone", "MobileNet", "--image-size", "32", "--regime", "small", "--measure"]
    done = CliRunner().invoke(main, ["plan", str(image_folder), *options])
    assert done.exit_code == 0, done.stderr
    assert "estimate  " in done.stdout
    assert "by timed batches" in done.stdout


def test_what_took_longer_or_shorter_is_said(tiny_run):
    made = json.loads((tiny_run.folder / "plan.json").read_text())["estimate"]
    assert made["measured"] is False
    assert made["memory"] > 2**20
    assert tiny_run.metrics["estimate"]["seconds"] == made["seconds"]
