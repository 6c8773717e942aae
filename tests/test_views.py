"""Kept views: random changes of training images whose frozen features are computed once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

import tlkit
from tlkit.cli.main import main
from tlkit.data.feed.dataset import Prepared, load_dataset
from tlkit.errors import SpecError
from tlkit.features.batches import FeatureBatches
from tlkit.features.cache import features_folder, list_entries
from tlkit.features.rows import Rows
from tlkit.planning import rules
from tlkit.progress import Progress
from tlkit.solver.l2_selection import Selection, solve_head
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification

QUIET = Progress(quiet=True)
NAMED = {"name": "MobileNet", "alpha": 0.25}
"""Planning loads no weights."""


@pytest.fixture
def prepared(image_folder, tmp_path, monkeypatch):
    """The generated images with three views each, and their task."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    made = load_dataset(
        make_spec({"data": str(image_folder), "augmented_copies": 2, **TINY}), {}, QUIET
    )
    return made, Classification(made.source.outputs)


def images(part, chosen) -> np.ndarray:
    return np.concatenate([np.asarray(batch[0]) for batch in part.batches(chosen)])


# What a view is


def test_a_view_hangs_on_its_image_alone_and_the_first_is_the_image(prepared):
    made, task = prepared
    train = made.training(task)
    n = len(train)
    assert train.views == 3
    assert len(train.all_views) == len(set(train.all_views.digests)) == 3 * n
    np.testing.assert_array_equal(train.all_views.targets, np.tile(train.targets, 3))
    own, seen = (
        images(train, range(n)),
        images(train.all_views, range(3 * n)).reshape(3, n, 32, 32, 3),
    )
    np.testing.assert_array_equal(seen[0], own)
    assert all(
        np.abs(seen[a][i] - seen[b][i]).max() > 1
        for a, b in ((0, 1), (0, 2), (1, 2))
        for i in range(n)
    )
    again = images(train.all_views, [2 * n + 5, 4, n + 1])
    np.testing.assert_array_equal(again, [seen[2][5], seen[0][4], seen[1][1]])


def test_the_whole_has_views_of_training_images_alone(prepared):
    made, task = prepared
    parts = {name: made.examples(name, task.encode).digests for name in ("train", "val", "test")}
    n = len(parts["train"])
    whole = made.whole(task.encode)
    assert whole.digests[:n] == parts["train"]
    assert whole.digests[3 * n :] == parts["val"] + parts["test"]
    assert made.whole(task.encode, test=False).digests == whole.digests[: -len(parts["test"])]


@pytest.mark.parametrize("change", [{"seed": 1}, {"mirror": False}, {"augment": "medium"}])
def test_other_draws_are_other_features(prepared, change):
    made, task = prepared
    spec = made.spec.model_copy(update=change)
    other = type(made)(spec, made.source, made.scan, made.split, 0.0)
    seen, changed = (set(m.training(task).all_views.digests) for m in (made, other))
    assert seen & changed == set(made.training(task).digests)


# What training takes


def test_each_epoch_takes_another_view_of_an_image():
    n, views = 10, 3
    rows = Rows([np.arange(3.0 * n)[:, None]], np.zeros(3 * n, int), np.arange(3 * n))
    batches = FeatureBatches(rows, np.tile(np.arange(n), views), 4, 0, epochs=range(6), views=views)
    taken = {i: [] for i in range(n)}
    for step in range(len(batches)):
        x, y = batches[step]
        np.testing.assert_array_equal(x[:, 0] % n, y)
        for value, image in zip(x[:, 0], y, strict=True):
            taken[int(image)].append(int(value) // n)
    assert all(sorted(seen) == [0, 0, 1, 1, 2, 2] for seen in taken.values())
    assert {seen[0] for seen in taken.values()} == {0, 1, 2}


def test_a_head_is_solved_on_all_views_and_folds_do_not_share_images():
    random = np.random.default_rng(0)
    task, y = Classification(("a", "b")), np.arange(40) % 2
    x = random.normal(size=(40, 5)).astype(np.float32)
    x[:, 0] += y
    other = (x + random.normal(size=x.shape, scale=0.1)).astype(np.float32)
    val_x, val_y = x[:10] + 0.3, y[:10]
    both = np.concatenate([x, other])
    one = solve_head(x, y, val_x, val_y, task, Selection(choice="folds"))
    two = solve_head(both, y, val_x, val_y, task, Selection(choice="folds", views=2))
    assert two.solution.l2 == one.solution.l2
    assert np.abs(two.solution.kernel - one.solution.kernel).max() > 1e-4


# Whole runs


def test_views_are_kept_and_fewer_of_them_are_there(
    image_folder, tiny_weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    fields |= {"freeze": "last=2", "epochs": 1, "progress": False}
    run = tlkit.train(image_folder, out=tmp_path / "many", augmented_copies=2, **fields)
    counts = run.metrics["examples"]
    kept = 3 * counts["train"] + counts["val"] + counts["test"]
    assert [entry.images for entry in list_entries(features_folder())] == [kept, kept]
    assert run.plan["estimate"]["disk"] > tlkit.plan(image_folder, **fields).estimate["disk"]
    assert [phase["features_kept"] for phase in run.metrics["phases"]] == [True, True]
    assert any("2 of each image are kept" in r for r in run.plan["phases"][1]["reasons"])
    tlkit.train(image_folder, out=tmp_path / "few", augmented_copies=1, **fields)
    assert [entry.images for entry in list_entries(features_folder())] == [kept, kept]
    assert len(list((tmp_path / "cache").rglob("*.rows"))) == 2, "something was computed again"


@pytest.mark.full  # streaming itself is tested always
def test_views_that_cannot_be_kept_are_drawn(image_folder, tiny_weights, tmp_path, monkeypatch):
    drawn = []
    training = Prepared.training

    def noted(self, task):
        part = training(self, task)

        def stream(augment, epochs=range(1)):
            drawn.append(augment)
            return part.epochs(augment, epochs)

        return dataclasses.replace(part, epochs=stream)

    monkeypatch.setattr(Prepared, "training", noted)
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    fields |= {
        "freeze": "last=2",
        "epochs": 1,
        "progress": False,
        "cache_size": 0,
        "augmented_copies": 1,
    }
    run = tlkit.train(image_folder, out=tmp_path / "run", **fields)
    assert drawn == [True]
    assert [phase["features_kept"] for phase in run.metrics["phases"]] == [True, False]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"augment": "none"}, "Received: 1 with augment none"),
        ({"mixup": 0.2}, "Received: 1 with augment auto, mixup 0.2"),
        ({"cutmix": 1.0}, "no mixup, no cutmix"),
    ],
)
def test_what_views_do_not_go_with_is_said(fields, words):
    with pytest.raises(
        SpecError, match="augmented_copies: are random changes of single images"
    ) as raised:
        make_spec({"augmented_copies": 1, **fields})
    assert words in str(raised.value)


@pytest.mark.parametrize("value", ["-1", "64", "many"])
def test_a_number_of_views_out_of_range_is_refused(image_folder, value):
    done = CliRunner().invoke(
        main, ["train", str(image_folder), "--set", f"augmented_copies={value}"]
    )
    assert done.exit_code == 2
    assert "augmented_copies" in done.output
    assert value in done.output


def test_copies_were_called_views_before_and_counted_the_image_too(image_folder):
    assert make_spec({"views": 4}).augmented_copies == 3
    assert make_spec({"views": None}).augmented_copies is None
    for views in (0, 65, "many"):
        with pytest.raises(SpecError, match="augmented_copies: "):
            make_spec({"views": views})
    with pytest.raises(SpecError, match="which is given as well.*Received: 2 and 1"):
        make_spec({"views": 2, "augmented_copies": 1})
    done = CliRunner().invoke(main, ["plan", "nowhere", "--set", "views=2"])
    assert "note      views is called augmented_copies from this version on" in done.stderr


# Chosen under a budget


@given(budget=st.floats(1, 1e6, allow_nan=False), features=st.floats(0, 1e6, allow_nan=False))
def test_a_budget_has_time_for_the_views_that_it_keeps(budget, features):
    count = rules.views(budget, features).value
    assert 1 <= count <= rules.MOST_VIEWS
    assert count == 1 or count * features <= rules.VIEWS_SHARE * budget


@pytest.mark.parametrize(
    ("fields", "views"),
    [
        ({"budget": "100h"}, rules.MOST_VIEWS),
        ({"budget": 0.001}, 1),
        ({"budget": "100h", "augmented_copies": 1}, 2),
        ({"budget": "100h", "augment": "none"}, 1),
        ({}, 1),
    ],
)
def test_the_plan_says_how_many_views_are_kept(image_folder, fields, views):
    plan = tlkit.plan(image_folder, progress=False, **{**TINY, "backbone": NAMED}, **fields)
    said = [reason for reason in plan.phases[0].reasons if reason.startswith("augmented copies: ")]
    assert {phase.views for phase in plan.phases[:2]} == {views}
    assert said == (
        [f"augmented copies: {views - 1} of each image are kept, light"] if views > 1 else []
    )


@pytest.mark.full
def test_a_run_under_a_budget_tells_its_views(
    image_folder, tiny_weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(rules, "VIEWS_SHARE", 1e6)
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    run = tlkit.train(image_folder, out=tmp_path / "run", budget=0.01, **fields)
    said = capsys.readouterr().out
    assert (
        f"budget    {rules.MOST_VIEWS - 1} augmented copies of each image: one takes about " in said
    )
    assert f"{rules.MOST_VIEWS - 1} augmented copies of each image, solved" in said
    assert run.spec.augmented_copies is None, "as asked for"
    assert run.plan["phases"][0]["views"] == rules.MOST_VIEWS
    counts = run.metrics["examples"]
    kept = rules.MOST_VIEWS * counts["train"] + counts["val"] + counts["test"]
    assert kept in [entry.images for entry in list_entries(features_folder())]
