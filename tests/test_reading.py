"""Files that change while tlkit is at work: named in one message, and nothing kept of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SMALL, TINY, write_images

import tlkit
from tlkit.cli.main import main
from tlkit.commands import train as conductor
from tlkit.data.feed.pipeline import batches
from tlkit.data.readers.open import open_source
from tlkit.data.scan import findings_cache as verdicts
from tlkit.data.scan.reading import Reading
from tlkit.data.scan.scan import scan
from tlkit.errors import DataError
from tlkit.features.cache import FeatureCache
from tlkit.progress import Progress

QUIET = Progress(quiet=True)
QUICK = ("--backbone", SMALL["backbone"]["name"], "--regime", "small", "--set", "engine=keras")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_images(tmp_path / "data", count=6)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Test metrics and kept features of a run on the same data that nothing changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    images = write_images(folder / "data", count=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLKIT_CACHE", str(folder / "cache"))
        out = folder / "run"
        run = tlkit.train(images, progress=False, out=out, regime="small", **SMALL)
    return run.metrics["test"], kept_features(folder / "cache")


def swap(data: Path) -> None:
    """Let two images of different classes change names, times and all."""
    one, other, aside = data / "disc/disc00.png", data / "square/square00.png", data / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def overwrite(data: Path) -> None:
    """Put another image into the same inode, and set mtime back."""
    file = data / "disc/disc00.png"
    before = file.stat()
    file.write_bytes((data / "stripes/stripes00.png").read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(data: Path) -> None:
    file = data / "disc/disc00.png"
    file.write_bytes(file.read_bytes()[:50])


def empty(data: Path) -> None:
    (data / "disc/disc00.png").write_bytes(b"")


def pipe(data: Path) -> None:
    (data / "disc/disc00.png").unlink()
    os.mkfifo(data / "disc/disc00.png")


def folder(data: Path) -> None:
    (data / "disc/disc00.png").unlink()
    (data / "disc/disc00.png").mkdir()


def link(data: Path) -> None:
    (data / "disc/disc00.png").unlink()
    (data / "disc/disc00.png").symlink_to(data / "disc/disc01.png")


CHANGES = {
    swap: "changed while tlkit was reading",
    overwrite: "changed while tlkit was reading",
    cut: "changed while tlkit was reading",
    empty: "changed while tlkit was reading",
    link: "changed while tlkit was reading",
    lambda data: (data / "disc/disc00.png").unlink(): "cannot be read any more (No such file",
    shutil.rmtree: "cannot be read any more (No such file",
    pipe: "cannot be read any more (is a pipe",
    folder: "cannot be read any more (is a folder",
}


def after_the_scan(monkeypatch, change, data):
    real = conductor.set_up
    monkeypatch.setattr(conductor, "set_up", lambda *a: change(data) or real(*a))


ALWAYS = ("overwrite", "pipe")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(*row, marks=() if row[0].__name__ in ALWAYS else pytest.mark.full)
        for row in CHANGES.items()
    ],
)
def test_a_change_after_the_scan_is_named_and_not_kept(
    data, undisturbed, tmp_path, monkeypatch, change, problem
):
    copy = shutil.copytree(data, tmp_path / "copy")
    with monkeypatch.context() as patch:
        after_the_scan(patch, change, data)
        result = CliRunner().invoke(main, ["train", "data", "--out", "run", *QUICK])
    assert result.exit_code == 2, result.output
    assert problem in result.stderr
    assert "Traceback" not in result.output
    assert "tlkit train --resume run" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    # Put back, the run goes on, and ends as if nothing had happened.
    if data.exists():
        shutil.rmtree(data)
    shutil.copytree(copy, data)
    resumed = conductor.resume("run", progress=False)
    metrics, features = undisturbed
    assert resumed.metrics["test"] == metrics
    assert kept_features(tmp_path / "cache") == features


def kept_features(cache: Path) -> dict[str, bytes]:
    """Return the features of each image, by its content hash."""
    found = {}
    for sidecar in (cache / "features").glob("*/*.json"):
        digests = json.loads(sidecar.read_text())["digests"]
        rows = np.fromfile(sidecar.with_suffix(".rows"), np.float32).reshape(len(digests), -1)
        found |= {digest: row.tobytes() for digest, row in zip(digests, rows, strict=True)}
    return found


def test_a_message_names_three_and_counts_the_others(data):
    examples = open_source(data).parts["train"]
    found = scan(examples, QUIET)
    for example in examples[:6]:
        example.path.unlink()
        with pytest.raises(OSError, match="No such file"):
            found.reading.read(example)
    with pytest.raises(DataError) as caught, found.reading.told("stop"):
        raise ValueError
    assert str(caught.value) == (
        "data disc/disc00.png: cannot be read any more (No such file or directory): it is no "
        "longer what was scanned; likewise disc/disc01.png, disc/disc02.png and 3 more. Nothing "
        "computed of it was kept; stop"
    )


def test_other_errors_pass_as_they_are(data):
    with pytest.raises(ZeroDivisionError), Reading({}).told():
        raise ZeroDivisionError


class Change(keras.callbacks.Callback):
    """Changes the data at the start of the second epoch."""

    def __init__(self, change, data):
        super().__init__()
        self.change, self.data = change, data

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.change(self.data)


@pytest.mark.parametrize(
    ("change", "freeze"),
    [
        (cut, "last=3"),
        *(pytest.param(change, "none", marks=pytest.mark.full) for change in (swap, shutil.rmtree)),
    ],
)
def test_a_change_in_streamed_epochs_is_named(data, change, freeze):
    fields = {**TINY, "augment": "light", "freeze": freeze, "epochs": 30, "batch_size": 4}
    with pytest.raises(DataError, match=r"changed while tlkit|cannot be read any more") as caught:
        tlkit.train(data, progress=False, out="run", callbacks=[Change(change, data)], **fields)
    assert "tlkit train --resume run" in str(caught.value)
    assert not Path("run/metrics.json").exists()


@pytest.mark.parametrize("use", ["lr-find", "compare", "data preview", "evaluate"])
def test_every_command_that_reads_twice_checks(data, tmp_path, monkeypatch, tiny_run, use):
    import tlkit.commands.compare.compare
    import tlkit.commands.lr_find
    import tlkit.commands.preview
    import tlkit.evaluate.labelled

    place, name = {
        "lr-find": (tlkit.commands.lr_find, "set_up"),
        "compare": (tlkit.commands.compare.compare, "set_up"),
        "data preview": (tlkit.commands.preview, "batches"),
        "evaluate": (tlkit.evaluate.labelled, "batches"),
    }[use]
    real = getattr(place, name)
    monkeypatch.setattr(place, name, lambda *a, **o: lengthen(data) or real(*a, **o))
    backbone = ["--set", "backbone.weights=none", "--set", "backbone.alpha=0.25"]
    common = ["--image-size", "32"]
    arguments = {
        "lr-find": ["data", "--backbone", "MobileNet", *backbone, *common, "--regime", "medium"],
        "compare": ["data", "--backbones", "MobileNet:alpha=0.25,weights=none,image_size=32"],
        "data preview": ["data", "--out", "seen.png", "--set", "image_size=32"],
        "evaluate": [str(tiny_run.folder), "data"],
    }[use]
    result = CliRunner().invoke(main, [*use.split(), *arguments])
    assert result.exit_code == 2, result.output
    assert ".png: changed while tlkit was reading" in result.stderr


def lengthen(data: Path) -> None:
    """Append a byte to each file, which no decoder minds."""
    for file in data.rglob("*.png"):
        file.write_bytes(file.read_bytes() + b"!")


def test_a_wrong_finding_is_forgotten_with_the_message(data, monkeypatch, tmp_path):
    """Whatever let a finding outlive its file: the next scan looks again."""
    monkeypatch.setattr(verdicts, "RACY", 0)
    examples = open_source(data).parts["train"]
    scan(examples, QUIET)
    (kept,) = (tmp_path / "cache" / "scan").glob("*.json")
    rows = verdicts._read(kept)
    one, other = (str(data / name) for name in ("disc/disc00.png", "disc/disc01.png"))
    state, finding = json.loads(rows[one])
    digest = json.loads(rows[other])[1][0]
    rows[one] = json.dumps([state, [digest, *finding[1:]]])
    verdicts._write(kept, rows)
    wrong = scan(examples, QUIET)
    with pytest.raises(DataError, match="disc/disc00.png: changed while"), wrong.reading.told():
        read_all(examples, wrong.reading)
    right = scan(examples, QUIET)
    assert right.digests["disc/disc00.png"] != wrong.digests["disc/disc00.png"]
    read_all(examples, right.reading)


def read_all(examples, reading):
    return list(batches(examples, np.zeros(len(examples), np.int32), 32, 4, reading=reading))


@pytest.mark.parametrize("renamed", [True, False], ids=["by rename", "by copy"])
def test_findings_do_not_outlive_a_swap(data, monkeypatch, renamed):
    """Same size, same mtime, at once: inode and ctime still tell."""
    monkeypatch.setattr(verdicts, "RACY", 0)
    one, other = data / "disc/disc00.png", data / "square/square00.png"
    size = max(one.stat().st_size, other.stat().st_size)
    for file in (one, other):  # bytes behind the end of a PNG are allowed
        file.write_bytes(file.read_bytes().ljust(size, b"\0"))
        os.utime(file, ns=(10**18, 10**18))
    examples = open_source(data).parts["train"]
    before = scan(examples, QUIET).digests
    if renamed:
        swap(data)
    else:
        contents = one.read_bytes(), other.read_bytes()
        for file, content in zip((other, one), contents, strict=True):
            copy = file.with_name("copy")
            copy.write_bytes(content)
            os.utime(copy, ns=(10**18, 10**18))
            os.replace(copy, file)
    after = scan(examples, QUIET).digests
    assert after["disc/disc00.png"] == before["square/square00.png"]
    assert after["square/square00.png"] == before["disc/disc00.png"]


def test_hard_links_are_one_content(data, monkeypatch):
    monkeypatch.setattr(verdicts, "RACY", 0)
    os.link(data / "disc/disc00.png", data / "disc/linked.png")
    examples = open_source(data).parts["train"]
    first = scan(examples, QUIET).digests
    assert first["disc/linked.png"] == first["disc/disc00.png"]
    (data / "disc/linked.png").write_bytes((data / "disc/disc01.png").read_bytes())
    second = scan(examples, QUIET).digests
    assert second["disc/linked.png"] == second["disc/disc00.png"] == first["disc/disc01.png"]


@pytest.mark.parametrize("what", ["digests", "entry"])
def test_a_shard_with_other_names_or_of_another_entry_is_not_believed(tmp_path, what):
    cache = FeatureCache(tmp_path, {"net": 1}, (2,), "float32", "one")
    cache.write_shard(["a", "b"], np.eye(2, dtype=np.float32))
    (sidecar,) = cache.path.glob("*.json")
    key = {"net": 1}
    if what == "digests":
        about = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps({**about, "digests": ["b", "a"]}))
    else:
        key = {"net": 2}
        other = FeatureCache(tmp_path, key, (2,), "float32", "two")
        for file in cache.path.glob(f"{sidecar.stem}.*"):
            shutil.copy(file, other.path / file.name)
    opened = FeatureCache(tmp_path, key, (2,), "float32", "again")
    assert opened.damaged == 1
    assert opened.missing(["a", "b"]) == [0, 1]
