"""What scans keep: nothing is looked at twice, nothing that changed is taken for known."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from conftest import write_images

from tlkit.cli.main import main
from tlkit.data.readers.open import open_source
from tlkit.data.scan import findings_cache as verdicts
from tlkit.data.scan import scan as scanning
from tlkit.data.scan.scan import scan
from tlkit.progress import Progress

QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(verdicts, "RACY", 0)  # the images of a test are never two seconds old
    return tmp_path / "cache" / "scan"


@pytest.fixture
def folder(tmp_path):
    made = write_images(tmp_path / "data", count=3)
    (made / "disc" / "empty.jpg").touch()
    return made


@pytest.fixture
def looks(monkeypatch):
    """The ids of all examples that were looked at, in a list that tests may clear."""
    seen = []
    real = scanning.look
    monkeypatch.setattr(scanning, "look", lambda e, *rest: seen.append(e.id) or real(e, *rest))
    return seen


def scanned(folder, **options):
    return scan(open_source(folder).parts["train"], QUIET, **options)


def kept(cache) -> list:
    return sorted(cache.glob("*"))


def test_a_second_scan_finds_the_same_and_reads_nothing(folder, looks):
    first = scanned(folder)
    assert len(looks) == 10
    looks.clear()
    assert scanned(folder) == first
    assert looks == []


def test_the_findings_lie_in_one_file_and_no_draft_is_left(folder, cache):
    scanned(folder)
    scanned(folder)
    assert [path.suffix for path in kept(cache)] == [".json"]


@pytest.mark.parametrize("restored", [False, True], ids=["plain", "mtime set back"])
def test_a_changed_file_is_looked_at_again(folder, looks, restored):
    scanned(folder)
    looks.clear()
    file = folder / "disc" / "disc00.png"
    before, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    time.sleep(0.02)  # the clock of a file system may tick a hundred times a second
    file.write_bytes(content)  # of the same size, in the same inode
    if restored:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = scanned(folder)
    assert looks == ["disc/disc00.png"]
    assert "truncated or corrupt" in found.left_out["disc/disc00.png"]


def test_a_replaced_file_and_the_target_of_a_link_are_looked_at_again(folder, looks, tmp_path):
    link = folder / "disc" / "link.png"
    link.symlink_to(tmp_path / "target.png")
    shutil.copy(folder / "disc" / "disc00.png", tmp_path / "target.png")
    first = scanned(folder)
    looks.clear()
    shutil.copy(folder / "disc" / "disc01.png", tmp_path / "new.png")
    os.replace(tmp_path / "new.png", tmp_path / "target.png")
    second = scanned(folder)
    assert looks == ["disc/link.png"]
    assert first.digests["disc/link.png"] == first.digests["disc/disc00.png"]
    assert second.digests["disc/link.png"] == second.digests["disc/disc01.png"]


def test_what_has_just_changed_is_not_trusted(folder, looks, monkeypatch, cache):
    monkeypatch.setattr(verdicts, "RACY", 3_600_000_000_000)
    scanned(folder)
    assert kept(cache) == []
    looks.clear()
    scanned(folder)
    assert len(looks) == 10


def test_new_files_alone_are_looked_at_and_gone_ones_forgotten(folder, looks, cache):
    scanned(folder)
    looks.clear()
    shutil.copy(folder / "disc" / "disc00.png", folder / "disc" / "new.png")
    (folder / "square" / "square00.png").unlink()
    scanned(folder)
    assert looks == ["disc/new.png"]
    text = kept(cache)[0].read_text()
    assert "new.png" in text
    assert "square00.png" not in text


def test_hashes_are_computed_when_they_are_first_asked_for(folder, looks):
    scanned(folder)
    looks.clear()
    scanned(folder, near=True)
    assert len(looks) == 9  # not the one that is unusable
    looks.clear()
    assert all(
        x.near is not None or x.problem for x in scanned(folder, near=True).findings.values()
    )
    assert looks == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "binary", "huge", "pipe", "folder"])
def test_a_damaged_file_is_noticed_and_rebuilt(folder, looks, cache, damage):
    first = scanned(folder)
    (file,) = kept(cache)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[-30] ^= 1
        file.write_bytes(content)
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "binary":
        file.write_bytes(bytes(range(256)))
    elif damage == "huge":
        os.truncate(file, 2**41)
    elif damage == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        file.unlink()
        file.mkdir()
    looks.clear()
    assert scanned(folder) == first
    assert len(looks) == 10
    looks.clear()
    assert scanned(folder) == first
    assert len(looks) == (10 if damage == "folder" else 0)


def test_findings_of_other_versions_are_not_used(folder, looks, monkeypatch):
    scanned(folder)
    looks.clear()
    monkeypatch.setattr(verdicts, "MADE_BY", [*verdicts.MADE_BY, "other"])
    scanned(folder)
    assert len(looks) == 10


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "file"))
    assert len(scanned(folder).digests) == 9


def test_room_is_bounded_and_the_longest_unused_go_first(tmp_path, monkeypatch, cache):
    folders = [write_images(tmp_path / name, count=1) for name in "abc"]
    scanned(folders[0])
    size = kept(cache)[0].stat().st_size
    monkeypatch.setattr(verdicts, "LIMIT", int(2.5 * size))
    old = time.time() - 1000
    os.utime(kept(cache)[0], (old, old))
    for folder in folders[1:]:
        scanned(folder)
    texts = [path.read_text() for path in kept(cache)]
    assert [any(f"/{name}/disc" in text for text in texts) for name in "abc"] == [False, True, True]
    monkeypatch.setattr(verdicts, "LIMIT", size // 2)
    shutil.rmtree(cache)
    scanned(folders[0])
    assert kept(cache) == []


def test_drafts_of_killed_processes_are_removed(folder, cache):
    cache.mkdir(parents=True)
    old, fresh = cache / ".draft-old", cache / ".draft-fresh"
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))
    scanned(folder)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_an_interrupted_scan_keeps_what_it_has_seen(folder, looks, monkeypatch):
    def stop(example, *rest):
        if example.id.startswith("square"):
            raise KeyboardInterrupt
        return real(example, *rest)

    real = scanning.look
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "look", stop)
        with pytest.raises(KeyboardInterrupt):
            scanned(folder)
    looks.clear()
    scanned(folder)
    assert not any(id_.startswith("disc") for id_ in looks)


def test_concurrent_scans_leave_one_good_file(folder, cache):
    whole = set(scanned(folder).digests)
    part = open_source(folder).parts["train"][5:]

    def work(turn: int) -> bool:
        if turn % 10 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        if turn % 2:
            return set(scanned(folder).digests) == whole
        return set(scan(part, QUIET).digests) < whole

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(60)))
    assert len(verdicts._read(kept(cache)[0])) == 10
    assert [path.suffix for path in kept(cache)] == [".json"] * len(kept(cache))


def test_clearing_the_cache_removes_findings(folder, cache):
    scanned(folder)
    assert CliRunner().invoke(main, ["cache", "clear"]).exit_code == 0
    assert kept(cache) == []
