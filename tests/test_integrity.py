"""Plausible files that are not the run's own, data that changed since, models never validated."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import CLASSES, SMALL, TINY, reseal, write_images
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.commands.train import resume
from tlkit.data.example import Example, content_digest
from tlkit.data.membership import as_text, changes, members
from tlkit.errors import DataError, Interrupted, RunFolderError, SpecError
from tlkit.features.store import FeatureStore
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import check_files, note

QUICK = {"regime": "small", "progress": False, **SMALL}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    """Return the one line of a refusal."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data with given parts, a run on them, and a run on others with other names and weights."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_CACHE", str(folder / "cache"))
        for seed, (part, count) in enumerate({"train": 5, "val": 3, "test": 3}.items()):
            write_images(folder / "data" / part, count=count, seed=seed)
        write_images(folder / "others", count=5, seed=9)
        for old, new in zip(CLASSES, ("ant", "bee", "cat"), strict=True):
            (folder / "others" / old).rename(folder / "others" / new)
        tlkit.train(folder / "data", out=folder / "run", **QUICK)
        tlkit.train(
            folder / "others", out=folder / "other", seed=3, **{**QUICK, "engine": "tensorflow"}
        )
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A copy of both, in which each run knows the copy of its data."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("data", "run", "other"):
        shutil.copytree(place / name, tmp_path / name)
    spec = Path("run/spec.yaml")
    spec.write_text(spec.read_text().replace(str(place), str(tmp_path)))
    reseal(Path("run"))
    return tmp_path


def unfinish() -> None:
    """Make of the run one that was stopped after its phase."""
    Path("run/metrics.json").unlink()


USES = {
    "evaluate": ("evaluate", "run"),
    "predict": ("predict", "run", "data/test"),
    "export": ("export", "run", "--out", "served"),
    "resume": ("train", "--resume", "run"),
}
READ = ("spec.yaml", "labels.json", "task.json", "model.keras", "metrics.json")
"""What every use goes by; `resume` of a finished run, which does nothing, looks at all."""


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", READ)
def test_a_file_of_another_run_is_noticed_by_each_use(here, name, use):
    shutil.copy(here / "other" / name, here / "run" / name)
    said = refused(*USES[use])
    assert f"run run: {name} is damaged or was replaced" in said
    ways = {"model.keras": "put a copy in its place", "metrics.json": "is measured anew"}
    assert ways.get(name, "Put back what it wrote, or train anew") in said


@pytest.mark.parametrize(
    "name", ["plan.json", "env.json", "scan.json", "data.json", "engine.json", "predictions.csv"]
)
def test_a_finished_run_is_looked_over_whole_before_it_is_called_finished(here, name):
    written = (here / "other" / name).read_text()  # its engine.json is the same
    (here / "run" / name).write_text(f"{written} ")
    if name == "data.json":
        assert name in refused("evaluate", "run")
    assert f"run run: {name} is damaged or was replaced" in refused("train", "--resume", "run")


@pytest.mark.parametrize("name", ["labels.json", "spec.yaml", "task.json"])
def test_an_edit_by_hand_is_noticed(here, name):
    """Two labels that change places: of the right form, and every answer would be wrong."""
    text = (here / "run" / name).read_text()
    edited = text.replace("image_size: 32", "image_size: 48")
    if name != "spec.yaml":
        edited = text.replace("disc", "!").replace("square", "disc").replace("!", "square")
    assert edited != text
    (here / "run" / name).write_text(edited)
    assert name in refused("predict", "run", "data/test")


def test_a_model_that_is_gone_is_answered_for_by_its_checkpoint_alone(here):
    (here / "run" / "model.keras").unlink()
    assert call("evaluate", "run").exit_code == 0
    shutil.copy(here / "other/checkpoints/best.keras", here / "run/checkpoints/best.keras")
    assert "checkpoints/best.keras is damaged or was replaced" in refused("evaluate", "run")
    assert "checkpoints/best.keras is damaged" in refused("train", "--resume", "run")


def test_metrics_of_another_run_do_not_finish_a_run(here):
    record = json.loads(Path("run/digests.json").read_text())
    Path("run/digests.json").write_text(json.dumps({**record, "files": {}}))
    shutil.copy("other/metrics.json", "run/metrics.json")
    for use in USES.values():
        assert "metrics.json" in refused(*use)


def test_a_damaged_record_is_told(here):
    for text in ("null", "{", "[]", '{"run": 1, "start": 2}', '{"unknown": 1}'):
        Path("run/digests.json").write_text(text)
        assert "digests.json" in refused("predict", "run", "data/test")


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_started_with_a_record_needs_it(here, finished):
    if not finished:
        unfinish()
    Path("run/digests.json").unlink()
    for use in USES.values():
        assert "digests.json is missing or unreadable: No such file" in refused(*use)


def test_the_best_model_so_far_is_missed_and_written_anew(here):
    unfinish()
    Path("run/checkpoints/best.keras").unlink()
    assert "checkpoints/best.keras is missing, or is no file" in refused(*USES["predict"])
    assert call(*USES["resume"]).exit_code == 0
    assert call(*USES["predict"]).exit_code == 0


def test_a_run_of_an_earlier_version_is_said_to_be_unchecked(here):
    for name in ("digests.json", "data.json"):
        (here / "run" / name).unlink()
    for use in ("evaluate", "predict", "export"):
        done = call(*USES[use])
        assert done.exit_code == 0, done.output
        assert "was made by an earlier version" in done.output
    done = call("evaluate", "run", "data/train")
    assert "what the run has seen is unknown" in done.output
    (here / "run/labels.json").write_text('["disc", "square"]')
    assert "do not belong together: 3, 2 and 3 outputs" in refused("predict", "run", "data/test")


def test_a_stopped_run_of_an_earlier_version_goes_on(here):
    unfinish()
    for name in ("digests.json", "data.json"):
        (here / "run" / name).unlink()
    with np.load("run/checkpoints/state.npz") as file:
        arrays = dict(file)
    plain = json.loads(arrays["json"].tobytes())
    del plain["run"], plain["best_digest"], plain["log_digest"], arrays["seal"]
    arrays["json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    np.savez("run/checkpoints/state.npz", **arrays)
    assert "was made by an earlier version" in call("predict", "run", "data/test").output
    assert call(*USES["resume"]).exit_code == 0
    done = call("evaluate", "run")
    assert done.exit_code == 0, done.output
    shutil.copy("other/labels.json", "run/labels.json")
    assert "labels.json is damaged or was replaced" in refused("predict", "run", "data/test")


# Unfinished runs


@pytest.mark.full
def test_the_best_model_so_far_is_announced(here):
    unfinish()
    for use in ("evaluate", "predict", "export"):
        done = call(*USES[use], *(["--json"] if use != "export" else []))
        assert done.exit_code == 0, done.output
        said = done.stdout if use == "export" else done.stderr
        assert "run is unfinished: its best model so far, validation accuracy" in said
        assert "go on with: tlkit train --resume run" in said
        if use != "export":
            json.loads(done.stdout)


@pytest.mark.parametrize("name", ["labels.json", "task.json", "data.json"])
def test_a_file_of_another_run_is_noticed_in_an_unfinished_one(here, name):
    unfinish()
    shutil.copy(here / "other" / name, here / "run" / name)
    assert f"{name} is damaged or was replaced" in refused(*USES["resume"])
    use = "evaluate" if name == "data.json" else "predict"
    assert f"{name} is damaged or was replaced" in refused(*USES[use])


def test_a_checkpoint_or_state_of_another_run_is_noticed(here):
    unfinish()
    shutil.copy("other/checkpoints/best.keras", "run/checkpoints/best.keras")
    said = refused("predict", "run", "data/test")
    assert "checkpoints/best.keras is damaged or was replaced, or the run was killed" in said
    assert call(*USES["resume"]).exit_code == 0, "its state has the weights"
    unfinish()
    shutil.copy("other/checkpoints/state.npz", "run/checkpoints/state.npz")
    for use in ("predict", "resume"):
        assert "state.npz is the state of another run" in refused(*USES[use])


def test_another_engine_is_not_taken_and_a_lost_one_is_chosen_anew(here):
    unfinish()
    engine = Path("run/engine.json")
    text = engine.read_text()
    own = json.loads(text)["name"]
    engine.write_text(text.replace(own, "keras" if own != "keras" else "tensorflow"))
    assert "engine.json is damaged or was replaced" in refused(*USES["resume"])
    engine.unlink()
    assert call(*USES["resume"]).exit_code == 0
    assert json.loads(engine.read_text())["name"] == own


@pytest.mark.parametrize(
    ("name", "finished"),
    [
        pytest.param("engine.json", True, marks=pytest.mark.full),
        ("engine.json", False),
        *(pytest.param("log.csv", x, marks=pytest.mark.full) for x in (True, False)),
        ("metrics.json", True),
        pytest.param("metrics.json", False, marks=pytest.mark.full),
    ],
)
def test_what_a_run_can_go_on_without_may_be_removed_as_the_message_says(here, name, finished):
    path = Path("run", name)
    if finished:
        path.write_text("{" + path.read_text()[:9])
    elif name == "metrics.json":
        path.write_text("{}")
    else:
        unfinish()
        path.write_text(path.read_text()[:-9])
    said = refused(*USES["resume"])
    assert f"{name} is" in said
    assert "Remove it" in said
    path.unlink()
    assert call(*USES["resume"]).exit_code == 0
    assert Path("run/metrics.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-size", 4],
        ["--set", "batch_size=4"],
        ["--batch-size", 32],  # as it is: nothing is trained by it either
        ["--json", "--batch-size", 4],
        ["--epochs", 9],
        ["--set", "seed=3"],
        ["--recipe", "run/spec.yaml"],
        ["data"],
    ],
    ids=str,
)
def test_options_beside_a_finished_run_are_refused(here, options):
    before = written("run")
    said = refused(*USES["resume"], *options)
    assert "Received: " in said
    if "batch" in str(options):
        assert "--resume run: the run is finished, --batch-size has no effect" in said
        assert "train anew: tlkit train --recipe run/spec.yaml --out NEW --batch-size" in said
    assert written("run") == before


def test_python_refuses_a_batch_size_for_a_finished_run_too(here):
    with pytest.raises(SpecError, match=r"the run is finished, --batch-size has no effect"):
        resume("run", progress=False, batch_size=4)
    assert resume("run", progress=False).finished


def written(folder: str) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


SPOILED = {
    "data": lambda: Path("data/test/disc/disc00.png").unlink(),
    "train": lambda: shutil.copy("other/data.json", "run/data.json"),
    "plan": lambda: Path("run/plan.json").write_text("{}"),
    "batches": lambda: Path("run/batches.json").write_text("{}"),
    "state": lambda: shutil.copy("other/checkpoints/state.npz", "run/checkpoints/state.npz"),
    "all data": lambda: shutil.rmtree("data"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_another_batch_size_is_written_only_where_the_run_can_go_on(here, what):
    unfinish()
    SPOILED[what]()
    before = written("run")
    refused(*USES["resume"], "--batch-size", 4)
    assert written("run") == before


@pytest.mark.full
def test_of_two_batch_sizes_the_last_counts_and_it_is_said(here):
    unfinish()
    done = call(*USES["resume"], "--batch-size", 4, "--set", "batch_size=2")
    assert done.exit_code == 0, done.stderr
    assert "note      --batch-size 4: replaced by --set batch_size=2" in done.stderr
    assert tlkit.open_run("run").spec.batch_size == 2


def test_the_engine_of_a_run_that_has_just_chosen_it_is_known(here):
    files = RunFolder("run")
    unfinish()
    record = json.loads(Path("run/digests.json").read_text())
    Path("run/digests.json").write_text(json.dumps({**record, "files": {}}))
    note(files, "engine.json", {"name": "keras"})
    check_files(files)
    files.write_json("engine.json", {"name": "tensorflow"})
    with pytest.raises(RunFolderError, match="engine.json is damaged or was replaced"):
        check_files(files)


@pytest.mark.parametrize(
    "change", ["value", *(pytest.param(c, marks=pytest.mark.full) for c in ("order", "other"))]
)
def test_a_log_that_the_run_did_not_write_is_noticed(here, change):
    unfinish()
    log = Path("run/log.csv")
    head, *rows = log.read_bytes().splitlines(keepends=True)
    if change == "value":
        rows[0] = rows[0].replace(b"0.", b"9.", 1)
    elif change == "order":
        rows.reverse()
    else:
        head, *rows = Path("other/log.csv").read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([head, *rows]))
    said = refused(*USES["resume"])
    assert "log.csv is missing or unreadable: " in said
    assert change == "other" or "its rows are not those that the run wrote" in said
    assert "Remove it to go on without its rows" in said
    log.unlink()
    assert call(*USES["resume"]).exit_code == 0


def test_rows_of_epochs_after_the_state_are_dropped_as_ever(here):
    unfinish()
    log = Path("run/log.csv")
    before = log.read_bytes()
    log.write_bytes(before + before.splitlines(keepends=True)[-1])
    assert call(*USES["resume"]).exit_code == 0
    assert log.read_bytes() == before


EDITS = {
    "weights": lambda plain, arrays: arrays.update(best_weights_0=2 * arrays["best_weights_0"]),
    "fewer": lambda plain, arrays: arrays.pop("best_weights_1"),
    "form": lambda plain, arrays: arrays.update(best_weights_0=arrays["best_weights_0"].ravel()),
    "best": lambda plain, arrays: plain.update(best={"loss": 0.0, "accuracy": 1.0}),
    "phases": lambda plain, arrays: plain.update(finished=[]),
    "rows": lambda plain, arrays: plain.update(log_rows=0),
    "batch": lambda plain, arrays: plain.update(batch_size=1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_state_is_noticed(here, edit):
    unfinish()
    with np.load("run/checkpoints/state.npz") as file:
        arrays = dict(file)
    plain = json.loads(arrays["json"].tobytes())
    EDITS[edit](plain, arrays)
    arrays["json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    np.savez("run/checkpoints/state.npz", **arrays)
    for use in ("predict", "resume"):
        assert "state.npz is missing or unreadable" in refused(*USES[use])


def test_an_export_is_not_checked_on_images_of_another_run(here):
    shutil.copy("other/scan.json", "run/scan.json")
    assert "scan.json is damaged or was replaced" in refused(*USES["export"])
    assert not Path("served").exists()


def test_a_run_does_not_begin_on_other_weights_than_it_was_started_with(here, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    import keras

    net = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    net.save_weights("own.weights.h5")
    backbone = {**TINY["backbone"], "weights": "own.weights.h5"}
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "rows", press)
        with pytest.raises(Interrupted):
            tlkit.train("data", out="new", **{**QUICK, **TINY, "backbone": backbone})
    Path("own.weights.h5").rename("kept.weights.h5")
    for variable in net.variables:
        variable.assign(variable + 1)
    net.save_weights("own.weights.h5")
    said = refused("train", "--resume", "new")
    assert "the weights of the backbone (weights=" in said
    assert "own.weights.h5) are no longer those that it was started with" in said
    Path("kept.weights.h5").rename("own.weights.h5")
    assert call("train", "--resume", "new").exit_code == 0


@pytest.mark.parametrize("gone", ["scan.json", "plan.json", "data.json"])
def test_a_start_that_lost_a_file_does_not_begin_anew(here, gone):
    unfinish()
    (here / "run" / gone).unlink()
    assert f"{gone} is damaged or was replaced" in refused(*USES["resume"])


def test_a_spec_may_be_edited_where_it_does_no_harm_and_it_is_said(here):
    unfinish()
    spec, text = Path("run/spec.yaml"), Path("run/spec.yaml").read_text()
    spec.write_text(text.replace("seed: 0", "seed: 1"))
    said = refused(*USES["resume"])
    assert "spec.yaml is not the one that it was started with: it differs in seed" in said
    spec.write_text(text.replace("cache_size: ", "cache_size: 1"))
    done = call(*USES["resume"])
    assert done.exit_code == 0, done.output
    assert "spec.yaml was edited since the run was started: cache_size" in done.stdout
    assert call("evaluate", "run").exit_code == 0


def test_a_run_stopped_before_its_first_epoch_has_no_model(here, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "rows", press)
        with pytest.raises(Interrupted) as caught:
            tlkit.train("data", out="new", **QUICK)
    assert str(caught.value) == "interrupted; Go on with: tlkit train --resume new"
    assert not list(Path("new").rglob("*.keras"))
    for use, *rest in (("predict", "data/test"), ("evaluate",), ("export",)):
        said = refused(use, "new", *rest)
        assert "is unfinished and holds no model yet: none has been validated" in said
        assert "Go on with: tlkit train --resume new" in said
    assert resume("new", progress=False).finished


# Data that has changed since a run was stopped, or measured


def swap(one: str, other: str) -> None:
    Path(one).rename("aside")
    Path(other).rename(one)
    Path("aside").rename(other)


TRAIN, TEST = "data/train/disc/disc00.png", "data/test/disc/disc00.png"
CHANGES = {
    "train and test": (lambda: swap(TRAIN, TEST), "2 of other content (train/disc/disc00.png; "),
    "val": (lambda: shutil.copy(TRAIN, "data/val/disc/disc00.png"), "1 gone (train/disc/disc00"),
    "re-sorted": (
        lambda: shutil.move(TRAIN, "data/train/square/x.png"),
        "1 gone (train/disc/disc00.png); 1 new (train/square/x.png)",
    ),
    "gone": (lambda: Path(TEST).unlink(), "1 gone (test/disc/disc00.png)"),
    "new": (lambda: write_images(Path("data/val/new"), ("disc",), 1), ""),
    "edited": (
        lambda: Image.new("RGB", (40, 48)).save("data/val/disc/disc00.png"),
        "1 of other content (val/disc/disc00.png)",
    ),
    "damaged": (lambda: Path(TEST).write_bytes(b"no"), "1 gone (test/disc/disc00.png)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(here, change):
    unfinish()
    make, words = CHANGES[change]
    make()
    said = refused(*USES["resume"])
    assert words in said
    if words:
        assert "have changed since it was stopped" in said


@pytest.mark.parametrize("change", ["train and test", "gone", "damaged"])
def test_the_own_test_part_must_be_what_it_was(here, change):
    CHANGES[change][0]()
    said = refused("evaluate", "run")
    assert ("1 of its 9 test images are no longer" if change == "gone" else "1 of other") in said
    assert change == "gone" or "its test part is no longer what it was" in said


def test_labels_edited_in_a_table_are_noticed(here):
    files = [(path, path.parts[1:3]) for path in sorted(Path("data").rglob("*.png"))]

    def write(wrong: str = ""):
        rows = [
            f"{path},{'disc' if str(path) == wrong else label},{part}"
            for path, (part, label) in files
        ]
        Path("table.csv").write_text("\n".join(["image,label,split", *rows]))

    write()
    tlkit.train("table.csv", out="tabled", **QUICK)
    write(wrong="data/test/square/square00.png")
    said = refused("evaluate", "tabled")
    assert "1 with another label (data/test/square/square00.png: square, now disc)" in said
    Path("tabled/metrics.json").unlink()
    assert "1 with another label" in refused("train", "--resume", "tabled")
    write()
    assert call("evaluate", "tabled").exit_code == 0


ROWS = {"train": [Example("a", "x"), Example("b", ("x", "y"))], "test": [Example("c", (1.5,))]}
HASHES = {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(
    ("parts", "digests", "found"),
    [
        ({}, {}, []),
        ({}, {"b": "4"}, ["1 of other content (b)"]),
        ({}, {"a": "2", "b": "1"}, ["2 of other content (a; b)"]),
        ({"test": []}, {}, ["1 gone (c)"]),
        ({"val": [Example("d", "x")]}, {"d": "4"}, ["1 new (d)"]),
        ({"test": [Example("c", (2.5,))]}, {}, ["1 with another label (c: [1.5], now [2.5])"]),
        ({"train": ROWS["train"][:1], "val": ROWS["train"][1:]}, {}, ["1 in another part (b: "]),
        ({"train": ROWS["train"][::-1]}, {}, ["their order"]),
    ],
)
def test_what_has_changed_is_said(parts, digests, found):
    before = json.loads(as_text(members(ROWS, HASHES)))
    assert before == members(ROWS, HASHES), "labels of all kinds come back"
    got = changes(before, members(ROWS | parts, HASHES | digests))
    assert len(got) == len(found)
    assert all(text.startswith(start) for text, start in zip(got, found, strict=True))


def test_many_changes_are_counted_and_three_named():
    names = [f"{i:03d}" for i in range(1200)]
    before = members({"train": [Example(name, "x") for name in names]}, dict.fromkeys(names, "1"))
    assert changes(before, {"train": []}) == ["1,200 gone (000; 001; 002; ...)"]


def test_100_000_images_take_few_bytes():
    ids = [f"train/some_class/IMG_2024_{i:06d}.jpg" for i in range(1000)]
    digests = {id_: content_digest(id_.encode()) for id_ in ids}
    rows = members({"train": [Example(id_, "some class") for id_ in ids]}, digests)
    assert len(as_text(rows)) < 1000 * 110


# Evaluation on what the run knows


def test_images_that_the_run_has_seen_are_left_out_whatever_they_are_called(here):
    new = write_images(here / "new", count=2, seed=21)
    shutil.copy(TRAIN, new / "disc" / "a.png")
    shutil.copy("data/val/square/square01.png", new / "square" / "b.png")
    shutil.copy(TEST, new / "disc" / "c.png")
    done = call("evaluate", "run", new, "--json")
    assert done.exit_code == 0, done.output
    got = json.loads(done.stdout)
    assert (got["examples"], got["seen_in_training"], got["seen_in_validation"]) == (7, 1, 1)
    assert got["left_out"] == [
        {"id": "disc/a.png", "reason": "the run trained on it (train/disc/disc00.png)"},
        {"id": "square/b.png", "reason": "the run validated with it (val/square/square01.png)"},
    ]
    text = "2 of 9 images, which the run has seen: 1 it trained on, 1 it validated with"
    assert text in done.stderr
    assert text in call("evaluate", "run", new).stdout


@pytest.mark.parametrize("part", ["train", "val"])
def test_what_the_run_has_seen_is_no_test(here, part):
    said = refused("evaluate", "run", f"data/{part}")
    assert "the run has seen each of the" in said
    assert "Allowed: images that it has not seen, or no DATA" in said


@pytest.mark.parametrize("without", [("test",), ("test", "val")])
def test_a_training_part_is_not_taken_unasked(here, without):
    fresh = here / "fresh"
    for seed, part in enumerate(("train", "val", "test")):
        write_images(fresh / part, count=1, seed=30 + seed)
    for part in without:
        shutil.rmtree(fresh / part)
    said = refused("evaluate", "run", "fresh")
    assert "has no test part, and a training part is no test" in said
    ways = " or ".join(f"fresh/{part}" for part in ("train", "val") if part not in without)
    assert f"Allowed: data with a test part, or {ways}." in said
    assert call("evaluate", "run", "fresh/train").exit_code == 0


def test_the_part_that_is_measured_is_said_and_json_stays_alone(here):
    write_images(here / "new" / "test", count=2, seed=7)
    write_images(here / "new" / "train", count=1, seed=8)
    line = "of new its test part is measured, 6 images; not measured: train 3"
    assert line in " ".join(call("evaluate", "run", "new").stdout.split())
    done = call("evaluate", "run", "new", "--json", "--out", "measured")
    assert (found := json.loads(done.stdout))["part"] == "test"
    assert json.loads(Path("measured/metrics.json").read_text()) == found
    assert line in " ".join(done.stderr.split())
    whole = call("evaluate", "run", "new/train", "--json")
    assert json.loads(whole.stdout)["part"] is None
    assert "test part" not in whole.stderr
    own = call("evaluate", "run", "--json")
    assert json.loads(own.stdout)["part"] == "test"


def test_a_table_with_parts_and_none_for_testing_is_refused(here):
    Path("t.csv").write_text(f"image,label,split\n{TEST},disc,train\n{TRAIN},disc,val\n")
    said = refused("evaluate", "run", "t.csv")
    assert "Allowed: data with a test part, or data without parts. Received: train, val" in said


@pytest.mark.parametrize("labels", [CLASSES[::-1], CLASSES[:2], CLASSES[:1]])
def test_some_classes_in_any_order_are_measured(here, labels):
    write_images(here / "some", labels, count=2, seed=40)
    got = tlkit.open_run("run").evaluate("some", progress=False)
    assert got["examples"] == 2 * len(labels)
    assert (got["seen_in_training"], got["seen_in_validation"], got["left_out"]) == (0, 0, [])


@pytest.mark.parametrize(
    "kind", ["uint8", *(pytest.param(k, marks=pytest.mark.full) for k in ("float32", "float64"))]
)
def test_arrays_are_recognised_by_their_pixels(here, kind):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (36, 20, 20, 3), dtype=np.uint8)
    run = tlkit.train((x, np.arange(36) % 3), out="arrays", **QUICK)
    new = np.concatenate([x, 255 - x[:3]]).astype(kind)
    got = run.evaluate((new, np.arange(39) % 3), progress=False)
    assert got["examples"] == run.metrics["examples"]["test"] + 3
    assert got["seen_in_training"] == run.metrics["examples"]["train"]
    chosen = [int(id_[6:]) for id_, *_ in run.members["train"]]
    with pytest.raises(DataError, match="the run has seen each of the"):
        run.evaluate((new[chosen], np.array(chosen) % 3), progress=False)


@pytest.mark.parametrize(
    ("use", "table"),
    [
        *(("evaluate run t.csv", f"run/{name}") for name in ("predictions.csv", "model.keras")),
        ("evaluate run t.csv", "t.csv"),
        ("evaluate run ./t.csv", "link.csv"),
        *(("predict run a.png", name) for name in ("a.png", "run/log.csv", "run/spec.yaml")),
        ("predict served a.png", "served/saved_model.pb"),
    ],
)
def test_a_table_does_not_replace_what_it_is_made_from(tmp_path, monkeypatch, use, table):
    monkeypatch.chdir(tmp_path)
    for folder in ("run", "served"):
        Path(folder).mkdir()
    run = [f"run/{name}" for name in ("spec.yaml", "model.keras", "log.csv", "predictions.csv")]
    for name in (*run, "served/saved_model.pb", "t.csv", "a.png"):
        Path(name).write_text("mine")
    Path("link.csv").symlink_to("t.csv")
    said = refused(*use.split(), "--csv", table)
    assert f"--csv {table}: would replace " in said
    assert "which the answers come from. Allowed: another file" in said
    assert Path(table).read_text() == "mine"


def test_a_table_of_an_earlier_call_is_replaced_in_the_folder_of_a_run_too(here):
    for _ in range(2):
        done = call("evaluate", "run", "--csv", "run/again.csv")
        assert done.exit_code == 0, done.output
    assert "run is finished" in call(*USES["resume"]).stdout


# Exports and prepared data


@pytest.fixture(scope="module")
def made(place):
    """What is made once of both: exports, and prepared data, the second with more images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for run in ("run", "other"):
            assert call("export", run, "--out", f"served-{run}").exit_code == 0
        for name, data in (("one", "data"), ("two", write_images(place / "more", seed=50))):
            tlkit.prepare_data(data, name, progress=False)
    return place


@pytest.fixture
def served(here, made):
    """Copies of the exports: `served`, and `served-other`."""
    shutil.copytree(made / "served-run", here / "served")
    shutil.copytree(made / "served-other", here / "served-other")


@pytest.fixture
def prepared(here, made):
    """Copies of the prepared data: `one`, and `two`."""
    for name in ("one", "two"):
        shutil.copytree(made / name, here / name)


@pytest.mark.parametrize(
    "name",
    [
        *("labels.json", "task.json", "rendering.json", "digests.json"),
        *("all", "saved_model.pb", "variables"),
    ],
)
def test_an_export_with_files_of_another_is_refused(served, name):
    own, other = Path("served"), Path("served-other")
    extra = Path("assets.extra")
    if name in ("all", "variables"):
        folder = extra if name == "all" else Path("variables")
        shutil.rmtree(own / folder)
        shutil.copytree(other / folder, own / folder)
    elif name == "rendering.json":  # those of the two are alike
        (own / extra / name).write_text('{"alpha": "drop", "bits": 8}')
    else:
        file = Path(name) if name == "saved_model.pb" else extra / name
        shutil.copy(other / file, own / file)
    said = refused("predict", "served", "data/test")
    assert "damaged, missing, or of another export" in said


def test_an_export_of_an_earlier_version_is_said_to_be_unchecked(served):
    Path("served/assets.extra/digests.json").unlink()
    said = refused("predict", "served", "data/test")
    assert "assets.extra/digests.json is missing. Export the run anew" in said
    for newer in ("assets.extra/rendering.json", "export.json"):
        Path("served", newer).unlink()
    done = call("predict", "served", "data/test")
    assert done.exit_code == 0, done.output
    assert "served: no export.json beside it, or of an earlier version" in done.stdout


def test_a_damaged_export_is_refused(served):
    for name in ("labels.json", "task.json", "rendering.json", "digests.json"):
        file = Path("served/assets.extra", name)
        before = file.read_text()
        for text in ("[" * 200_000, "{}", "null", "7", ""):
            file.write_text(text)
            assert name in refused("predict", "served", "data/test")
        file.write_text(before)
    assert call("predict", "served", "data/test").exit_code == 0


def test_a_pipe_among_the_files_of_an_export_is_not_waited_for(served):
    for name in ("fingerprint.pb", "variables/variables.index", "assets.extra/task.json"):
        file = Path("served", name)
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        assert name in refused("predict", "served", "data/test")
        file.unlink()
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["labels.json", "task.json", "data.json", "scan.json"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_called_finished_or_gone_on_with_without_what_it_began_with(
    here, name, finished
):
    if not finished:
        unfinish()
    Path("run", name).unlink()
    assert name in refused(*USES["resume"])


ABOUTS = {
    "deep": lambda about: "[" * 200_000,
    "a folder": lambda about: None,
    "null": lambda about: "null",
    "list of digests": lambda about: json.dumps({**about, "digests": ["a"]}),
    "no digests": lambda about: json.dumps({k: v for k, v in about.items() if k != "digests"}),
    "no digest": lambda about: json.dumps({**about, "digests": {"features.json": None}}),
    "list of tasks": lambda about: json.dumps({**about, "task": ["classification"]}),
    "format": lambda about: json.dumps({**about, "format": [2]}),
    "a name with NUL": lambda about: json.dumps({**about, "digests": {"a\0": "0"}}),
    "gone": lambda about: "",
}


@pytest.mark.parametrize("damage", ABOUTS)
def test_what_describes_a_prepared_data_set_is_needed_whole(prepared, damage):
    about = Path("one/tlkit.json")
    text = ABOUTS[damage](json.loads(about.read_text()))
    about.unlink()
    if text is None:
        about.mkdir()
    elif damage != "gone":
        about.write_text(text)
    said = refused("data", "scan", "one")
    assert (
        "a\\x00: is missing or damaged" if "NUL" in damage else "data one: tlkit.json is"
    ) in said
    assert "missing or damaged" in said
    assert "prepare it anew" in said


@pytest.mark.parametrize("change", ["label", "order", "other", "about", "names", "shards"])
def test_a_prepared_data_set_whose_index_was_changed_is_refused(prepared, change):
    index = Path("one/index-train.jsonl")
    lines = index.read_text().splitlines()
    words = "index-train.jsonl: is missing or damaged, or was replaced: not what tlkit.json says"
    if change == "label":
        label = json.loads(lines[0])[1]
        wrong = "disc" if label != "disc" else "square"
        index.write_text("\n".join([lines[0].replace(f'"{label}"', f'"{wrong}"'), *lines[1:]]))
    elif change == "order":
        index.write_text("\n".join(lines[::-1]))
    elif change == "other":
        shutil.copy("two/index-train.jsonl", index)
    elif change == "about":
        shutil.copy("two/tlkit.json", "one/tlkit.json")
        words = "is missing or damaged, or was replaced"
    elif change == "names":
        info = Path("one/dataset_info.json")
        info.write_text(info.read_text().replace("prepared by tlkit", "prepared by others"))
        words = "dataset_info.json: is missing or damaged, or was replaced"
    else:
        one, two = (
            sorted(Path("one").glob(f"*-{p}.tfrecord-*"))[0] for p in ("test", "validation")
        )
        swap(str(one), str(two))
        result = call("evaluate", "run", "one")
        assert result.exit_code == 2, result.output
        assert "is not what its index says; prepare it anew" in result.stderr
        return
    assert words in refused("data", "scan", "one")
