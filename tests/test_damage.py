"""Damaged run folders and unusable caches: one message that names the file, never a traceback."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import SMALL, reseal

import tlkit
from tlkit.cli.main import main
from tlkit.data.readers.samples import prepare_example
from tlkit.errors import CacheError, RunFolderError
from tlkit.features import cache as cache_module
from tlkit.features.cache import UNFINISHED, clear, features_folder, list_entries
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import State, read_state


def _flip(path):
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 3, len(content), max(1, len(content) // 50)):
        content[i] ^= 0x55
    path.write_bytes(content)


def _folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "null": lambda path: path.write_text("null\n"),
    "object": lambda path: path.write_text("{}\n"),
    "list": lambda path: path.write_text("[]\n"),
    "types": lambda path: path.write_text('{"phases": 3, "splits": [], "task": {}, "data": []}\n'),
    "deep": lambda path: path.write_text("[" * 200_000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "huge": lambda path: os.truncate(path, 2**41),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": _folder,
}

READERS = {
    "labels.json": lambda run: run.labels,
    "task.json": lambda run: run.task,
    "data.json": lambda run: run.evaluate(progress=False),
    "scan.json": lambda run: run.export(run.folder / "served", progress=False),
    "plan.json": lambda run: run.plan,
    "engine.json": lambda run: run.files.read_engine(),
    "metrics.json": lambda run: run.metrics,
    "spec.yaml": lambda run: tlkit.open_run(run.folder),
    "model.keras": lambda run: run.predict([]),
    "log.csv": lambda run: run.files.read_log(),
}


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A copy of the finished run, to be damaged."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    return tmp_path / "run"


def damaged_files() -> list:
    """Return each file with each damage, `full` the rarer ones of those that one reader reads."""
    always = {"spec.yaml", "labels.json", "model.keras", "log.csv"}
    kinds = ("cut", "types", "folder")
    return [
        (name, damage)
        if name in always or damage in kinds
        else pytest.param(name, damage, marks=pytest.mark.full)
        for name in READERS
        for damage in DAMAGES
    ]


@pytest.mark.parametrize(("name", "damage"), damaged_files())
def test_a_damaged_file_is_named(copied, name, damage):
    if name == "model.keras" and damage in ("folder", "pipe"):
        pytest.skip("then the best checkpoint, of the same weights, is read")
    run = tlkit.open_run(copied)
    DAMAGES[damage](copied / name)
    with pytest.raises(tlkit.errors.TlkitError, match=name) as caught:
        READERS[name](run)
    assert caught.value.exit_code == 2
    assert str(copied) in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named(tmp_path, damage):
    files = RunFolder(tmp_path)
    files.state.parent.mkdir()
    State(finished=[{"name": "head"}], epoch=3).write(files)
    assert read_state(files).epoch == 3
    DAMAGES[damage](files.state)
    with pytest.raises(
        RunFolderError, match=r"state\.npz is missing or unreadable.*Remove the file"
    ):
        read_state(files)


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("spec.yaml", (["evaluate", "RUN"], ["predict", "RUN", "x.png"], ["export", "RUN"])),
        ("model.keras", (["evaluate", "RUN"], ["predict", "RUN", "x.png"], ["export", "RUN"])),
        ("task.json", (["evaluate", "RUN"], ["predict", "RUN", "x.png"], ["export", "RUN"])),
        ("data.json", (["evaluate", "RUN"],)),
        ("scan.json", (["export", "RUN"],)),
        ("metrics.json", (["train", "--resume", "RUN"],)),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_commands_end_in_one_message(copied, image_folder, name, commands, damage):
    DAMAGES[damage](copied / name)
    image = str(next(image_folder.rglob("*.png")))
    for words in commands:
        words = [{"RUN": str(copied), "x.png": image}.get(word, word) for word in words]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2, (words, done.output, done.exception)
        assert name in done.stderr
        assert done.stderr.count("\n") <= 3
    assert not (copied / "export" / "savedmodel").exists()


ALWAYS = (
    "state cut",
    "log folder",
    "plan cut",
    "plan empty",
    "plan folder",
    "best cut",
    "best folder",
)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        if f"{name} {damage}" in ALWAYS
        else pytest.param(name, damage, marks=pytest.mark.full)
        for name in ("state", "log", "plan", "best")
        for damage in ("cut", "empty", "folder")
    ],
)
def test_resuming_a_damaged_run_ends_in_one_message(copied, name, damage):
    (copied / "metrics.json").unlink()
    files = RunFolder(copied)
    path = {"plan": copied / "plan.json"}.get(name) or getattr(files, name)
    DAMAGES[damage](path)
    if name == "best" and damage != "folder":  # written anew: its weights are in the state
        run = tlkit.commands.train.resume(copied, progress=False)
        assert tlkit.open_run(copied).model.count_params() == run.model.count_params()
        return
    done = CliRunner().invoke(main, ["train", "--resume", str(copied)])
    assert done.exit_code == 2, (done.output, done.exception)
    assert path.name in done.stderr
    if name in ("state", "log"):  # what the message advises
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        done = CliRunner().invoke(main, ["train", "--resume", str(copied)])
        assert done.exit_code == 0, (done.output, done.exception)


def test_damaged_metrics_are_measured_anew_as_the_message_says(copied, tiny_run):
    (copied / "metrics.json").write_text("{")
    said = CliRunner().invoke(main, ["train", "--resume", str(copied)]).stderr
    assert "metrics.json is damaged or was replaced" in said
    assert "Remove it, and the run is measured anew" in said
    (copied / "metrics.json").unlink()
    run = tlkit.commands.train.resume(copied, progress=False)
    assert run.metrics["test"] == tiny_run.metrics["test"]


def test_a_model_that_is_damaged_names_its_copy(copied):
    _flip(copied / "model.keras")
    with pytest.raises(RunFolderError, match="The same weights are in .*best.keras: put a copy"):
        tlkit.open_run(copied).model  # noqa: B018


@pytest.mark.full
def test_the_export_of_a_run_whose_images_were_damaged_says_so(
    copied, image_folder, tmp_path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(image_folder, data)
    spec = copied / "spec.yaml"
    spec.write_text(spec.read_text().replace(str(image_folder), str(data)))
    reseal(copied)
    run = tlkit.open_run(copied)
    first, second, *_ = run.files.read_json("scan.json")["splits"]["test"]
    (data / first).write_bytes(b"no image at all")
    (data / second).write_bytes((data / second).read_bytes()[:200])
    run.export(tmp_path / "served")
    said = capsys.readouterr().out
    assert f"left out  {first}: " in said
    assert f"left out  {second}: " in said
    assert "images answered alike" in said


@pytest.fixture
def file_for_a_cache(tmp_path, monkeypatch):
    """A cache folder below a regular file: nobody, not even root, can write there."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "file" / "cache"))
    return tmp_path


def test_an_unusable_cache_is_told_and_not_needed(file_for_a_cache, image_folder):
    out = file_for_a_cache / "run"
    words = ["train", str(image_folder), "--backbone", SMALL["backbone"]["name"]]
    words += ["--regime=small", f"--out={out}"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert "feature cache" in done.stderr
    assert "keep none with --set cache_size=0" in done.stderr
    shutil.rmtree(out, ignore_errors=True)
    done = CliRunner().invoke(main, [*words, "--set=cache_size=0"])
    assert done.exit_code == 0, (done.output, done.exception)
    for words in (["cache", "list"], ["cache", "clear"]):
        assert CliRunner().invoke(main, words).exit_code == 0


def test_examples_need_a_cache_folder(file_for_a_cache):
    with pytest.raises(CacheError, match="example:digits: .*cannot be written.*TLKIT_CACHE"):
        prepare_example("example:digits")


@pytest.mark.parametrize("where", ["/proc/tlkit", "/sys/tlkit"])
def test_a_cache_in_a_folder_of_the_system(where, monkeypatch):
    if not Path(where).parent.is_dir():
        pytest.skip("no such file system")
    with pytest.raises(CacheError, match="set TLKIT_CACHE to another folder"):
        cache_module.make_room(Path(where), 1, 10)
    assert not cache_module.make_room(Path(where), 1, 0)  # cache_size=0: nothing is touched


def test_unfinished_entries_are_listed_and_cleared_and_others_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    killed, foreign = features_folder() / ("0" * 32), features_folder() / "mine"
    for folder in (killed, foreign):
        folder.mkdir(parents=True)
        (folder / "a.rows").write_bytes(bytes(100))
    (foreign / "title").write_text("somebody's")
    (entry,) = list_entries(features_folder())
    assert (entry.title, entry.bytes, entry.images) == (UNFINISHED, 100, 0)
    assert "(unfinished)" in CliRunner().invoke(main, ["cache", "list"]).output
    assert clear(features_folder()) == 100
    assert not killed.exists()
    assert (foreign / "a.rows").exists()


def test_two_that_clear_at_once_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    entry = features_folder() / ("1" * 32)
    entry.mkdir(parents=True)
    (entry / "title").write_text("x")
    (entry / "a.rows").write_bytes(bytes(10))
    listed = Path.glob

    def gone(self, pattern):
        found = list(listed(self, pattern))
        shutil.rmtree(entry, ignore_errors=True)  # the other one, in the middle of the listing
        return found

    monkeypatch.setattr(Path, "glob", gone)
    assert list_entries(features_folder())[0].bytes == 0
    assert CliRunner().invoke(main, ["cache", "clear"]).exit_code == 0


def test_sizes_of_all_the_cache_are_listed_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    prepare_example("example:digits")
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.json").write_bytes(bytes(2**20))
    (tmp_path / "mine").write_text("foreign")
    said = CliRunner().invoke(main, ["cache", "list"]).output
    assert "scan: 1.0 MiB, what scans have found" in said
    assert "MiB, example data, laid out" in said
    cleared = CliRunner().invoke(main, ["cache", "clear"])
    assert cleared.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
