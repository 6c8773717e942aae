"""Kept features: the same numbers as computed ones, and nothing damaged is ever read."""

from __future__ import annotations

import json
import multiprocessing
import os

import numpy as np
import pytest
from click.testing import CliRunner

from tlkit.cli.main import main
from tlkit.features import cache as cache_module
from tlkit.features.cache import UNFINISHED, FeatureCache, clear, fill, list_entries, make_room

KEY = {"weights": "w"}
SHAPE = (3, 2)


def features(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def digests(count: int) -> list[str]:
    return [f"image{i}" for i in range(count)]


def opened(root, dtype: str = "float32", **key: str) -> FeatureCache:
    return FeatureCache(root, {**KEY, **key}, SHAPE, dtype, "title")


def filled(root, count: int = 10, **options) -> FeatureCache:
    cache = opened(root, **options)
    rows = features(count)
    fill([cache], digests(count), [[rows[:4]], [rows[4:]]])
    return cache


def test_rows_come_back_bit_by_bit_in_the_order_asked_for(tmp_path):
    filled(tmp_path)
    order = ["image7", "image0", "image7", "image9"]
    rows = opened(tmp_path).rows(order)
    np.testing.assert_array_equal(rows.take(), features(10)[[7, 0, 7, 9]])
    np.testing.assert_array_equal(rows.take(np.array([3, 0])), features(10)[[9, 7]])


def test_float16_rows_are_near(tmp_path):
    filled(tmp_path, dtype="float16")
    got = opened(tmp_path, dtype="float16").rows(digests(10)).take()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, features(10), atol=2e-3)
    assert not np.array_equal(got, features(10))


def test_missing_names_each_new_content_once(tmp_path):
    cache = filled(tmp_path, 2)
    assert cache.missing(["new", "image1", "other", "new"]) == [0, 2]


def test_many_shards_are_read_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 100)  # four images of 24 bytes
    filled(tmp_path)
    cache = opened(tmp_path)
    assert len(list(cache.path.glob("*.rows"))) == 3
    np.testing.assert_array_equal(cache.rows(digests(10)).take(), features(10))


def test_caches_that_are_filled_together_end_with_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 100)
    large = opened(tmp_path)
    small = FeatureCache(tmp_path, {"other": "cut"}, (2,), "float16", "title")
    assert small.per_shard > large.per_shard == 4
    rows, few = features(10), np.arange(20).reshape(10, 2)

    def stopped():
        yield [rows[:7], few[:7]]
        yield [rows[7:9], few[7:9]]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill([large, small], digests(10), stopped())
    assert large.missing(digests(10)) == small.missing(digests(10)) == [8, 9]
    fill([large, small], digests(10)[8:], [[rows[8:], few[8:]]])
    np.testing.assert_array_equal(large.rows(digests(10)).take(), rows)
    np.testing.assert_array_equal(small.rows(digests(10)).take(), few)


@pytest.mark.parametrize("change", [{"weights": "other"}, {"graph": "other"}])
def test_another_network_finds_nothing(tmp_path, change):
    filled(tmp_path)
    assert opened(tmp_path, **change).missing(digests(10)) == list(range(10))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def _pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


DAMAGES = {
    "flipped bit": lambda rows, sidecar: _flip(rows),
    "truncated": lambda rows, sidecar: rows.write_bytes(rows.read_bytes()[:-3]),
    "longer": lambda rows, sidecar: rows.write_bytes(rows.read_bytes() + b"xxx"),
    "empty": lambda rows, sidecar: rows.write_bytes(b""),
    "gone": lambda rows, sidecar: rows.unlink(),
    "foreign": lambda rows, sidecar: rows.write_bytes(b"PK\x03\x04" + bytes(100)),
    "a pipe": lambda rows, sidecar: _pipe(rows),
    "huge": lambda rows, sidecar: os.truncate(rows, 2**41),
    "sidecar is a pipe": lambda rows, sidecar: _pipe(sidecar),
    "sidecar is huge": lambda rows, sidecar: os.truncate(sidecar, 2**41),
    "sidecar is no JSON": lambda rows, sidecar: sidecar.write_text("{"),
    "sidecar is deep": lambda rows, sidecar: sidecar.write_text("[" * 200_000),
    "sidecar is a list": lambda rows, sidecar: sidecar.write_text("[]"),
    "sidecar names others": lambda rows, sidecar: sidecar.write_text(
        json.dumps({"digests": ["a"], "checksum": ""})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_removed_and_computed_anew(tmp_path, damage):
    path = filled(tmp_path).path
    DAMAGES[damage](next(path.glob("*.rows")), next(path.glob("*.json")))
    cache = opened(tmp_path)
    assert cache.damaged == 1
    assert cache.missing(digests(10)) == list(range(10))
    fill([cache], digests(10), [[features(10)]])
    np.testing.assert_array_equal(opened(tmp_path).rows(digests(10)).take(), features(10))


def test_a_shard_without_sidecar_is_not_read(tmp_path):
    path = filled(tmp_path).path
    next(path.glob("*.json")).unlink()
    cache = opened(tmp_path)
    assert cache.damaged == 0
    assert len(cache.missing(digests(10))) == 10


def test_a_title_is_listed_without_what_a_terminal_obeys(tmp_path):
    (filled(tmp_path).path / "title").write_text("a\x1b[31mb")
    (entry,) = list_entries(tmp_path)
    assert entry.title.isprintable()


TITLES = {
    "a pipe": _pipe,
    "huge": lambda path: os.truncate(path, 2**41),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", TITLES)
def test_a_title_is_not_needed_and_written_anew(tmp_path, damage):
    path = filled(tmp_path).path
    TITLES[damage](path / "title")
    (entry,) = list_entries(tmp_path)
    assert (entry.title, entry.images) == (UNFINISHED, 10)
    np.testing.assert_array_equal(opened(tmp_path).rows(digests(10)).take(), features(10))
    (entry,) = list_entries(tmp_path)
    assert entry.title == (UNFINISHED if damage == "a folder" else "title")
    assert not list(path.glob(".draft-*"))


def _fill(root):
    filled(root, 50)


def test_two_processes_that_fill_one_entry_end_with_a_good_one(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    cache = opened(tmp_path)
    assert cache.damaged == 0
    np.testing.assert_array_equal(cache.rows(digests(50)).take(), features(50))


def test_room_is_made_from_the_longest_unused(tmp_path):
    old, new = filled(tmp_path), filled(tmp_path, weights="newer")
    os.utime(old.path, (1, 1))
    assert make_room(tmp_path, needed=100, limit=400)  # each entry has 240 bytes
    assert [entry.path for entry in list_entries(tmp_path)] == [new.path]


def test_an_entry_is_not_removed_to_make_room_for_itself(tmp_path):
    own = filled(tmp_path)
    assert make_room(tmp_path, needed=240, limit=400, own=[own.path])
    assert [entry.path for entry in list_entries(tmp_path)] == [own.path]


def test_nothing_is_removed_for_what_can_never_fit(tmp_path):
    filled(tmp_path)
    assert not make_room(tmp_path, needed=500, limit=400)
    assert len(list_entries(tmp_path)) == 1


def test_clear_removes_all(tmp_path):
    filled(tmp_path)
    assert clear(tmp_path) == 240
    assert list_entries(tmp_path) == []


def test_commands_list_and_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    filled(tmp_path / "features")
    listed = CliRunner().invoke(main, ["cache", "list"])
    assert "title" in listed.output
    assert "10" in listed.output
    cleared = CliRunner().invoke(main, ["cache", "clear"])
    assert cleared.exit_code == 0
    assert not list_entries(tmp_path / "features")


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path):
    cache = filled(tmp_path)
    import shutil

    shutil.rmtree(tmp_path)
    tmp_path.write_text("a file in its place")
    with pytest.raises(cache_module.CacheError, match="TLKIT_CACHE"):
        fill([cache], ["x"], [[features(1)]])
