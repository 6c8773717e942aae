"""Features on disk: computed once for an image and a frozen network, read as mapped memory.

A cache entry belongs to one tensor of a frozen network (the graph up to it, its weights, the
image size, number type, versions); a cut of several tensors has an entry for each. In it lie
shards, each a file of rows and a sidecar that names the images by content hash and holds a
checksum of both and of the entry, so that rows under other names, or of another entry, are not
believed. A shard is visible once its sidecar is, and is never changed: several processes may fill
one entry, and a killed one leaves nothing half-written that would be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.atomic import file_draft
from tlkit.data.pictures.files import parse_json, read_file
from tlkit.errors import CacheError, printable
from tlkit.features.rows import Rows
from tlkit.places import cache_folder

SHARD_BYTES = 32 * 2**20
"""Size at which a shard is closed: what a killed run loses at most, and half of what a run holds
in memory while it computes."""

FORMAT = 4
"""Number of this layout; raised when files written before could be misread."""


ENTRY = re.compile("[0-9a-f]{32}")
"""Names of entries; what is called otherwise is somebody else's, and is left alone."""

UNFINISHED = "(unfinished)"
"""What stands for the title of an entry whose process was killed before it wrote one."""


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Turn an error of the system into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"feature cache {root}: cannot be written: {error.strerror}. Free some "
            "space, set TLKIT_CACHE to another folder, or keep none with --set cache_size=0"
        ) from error


def features_folder() -> Path:
    """Return the folder that holds all entries."""
    return cache_folder() / "features"


def entry_folder(root: Path, key: dict[str, Any], dtype: str) -> Path:
    """Return where the features of one prefix lie."""
    text = json.dumps({**key, "dtype": dtype, "format": FORMAT}, sort_keys=True)
    return root / hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Entry:
    """What `tlkit cache list` shows of an entry."""

    path: Path
    title: str
    bytes: int
    images: int
    used: float


class FeatureCache:
    """One entry of the cache: the features of one prefix, at the one tensor that it gives.

    Args:
        root: the folder that holds all entries.
        key: everything that the features depend on except the images.
        shape: of one image's features.
        dtype: `float32` or `float16`.
        title: what a person sees in a listing.
    """

    def __init__(
        self, root: Path, key: dict[str, Any], shape: Sequence[int], dtype: str, title: str
    ):
        self.path = entry_folder(root, key, dtype)
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.damaged = 0
        with _writing(root):
            self.path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(IsADirectoryError):  # a listing can do without
                self._put("title", title)
            os.utime(self.path)
        self._places: dict[str, tuple[int, int]] = {}
        self._shards: list[np.ndarray] = []
        for sidecar in sorted(self.path.glob("*.json")):
            self._open(sidecar)

    def missing(self, digests: Sequence[str]) -> list[int]:
        """Return the indices of the images that are not in the cache, each content once."""
        first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
        return sorted(i for digest, i in first.items() if digest not in self._places)

    def rows(self, digests: Sequence[str]) -> Rows:
        """Return the features of these images; all must be there."""
        places = np.array([self._places[digest] for digest in digests]).reshape(-1, 2)
        return Rows(self._shards, places[:, 0], places[:, 1])

    @property
    def per_shard(self) -> int:
        """Images in a shard, at most."""
        return max(1, SHARD_BYTES // max(1, self.dtype.itemsize * int(np.prod(self.shape))))

    def write_shard(self, digests: Sequence[str], rows: np.ndarray) -> None:
        """Write the features of these images as a file of their own; then they are there."""
        name = uuid.uuid4().hex
        data, sidecar = self.path / f"{name}.rows", self.path / f"{name}.json"
        about = {"digests": list(digests), "checksum": _checksum(self.path, digests, rows)}
        with _writing(self.path.parent):
            self.path.mkdir(exist_ok=True)  # another process may have made room
            data.write_bytes(memoryview(rows).cast("B"))
            self._put(sidecar.name, json.dumps(about))
        self._open(sidecar)

    def _put(self, name: str, text: str) -> None:
        with file_draft(self.path / name, shared=True) as draft:
            draft.write_text(text, encoding="utf-8")

    def _open(self, sidecar: Path) -> None:
        """Map a shard; one that is not what its sidecar says is removed and computed anew."""
        data = sidecar.with_suffix(".rows")
        try:
            about = parse_json(read_file(sidecar))
            shape = (len(about["digests"]), *self.shape)
            size = self.dtype.itemsize * math.prod(shape)
            if whole := data.stat().st_size == size:  # which no pipe has
                rows = np.memmap(data, self.dtype, "r", shape=shape)
                whole = _checksum(self.path, about["digests"], rows) == about["checksum"]
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            self.damaged += 1
            for path in (sidecar, data):
                with contextlib.suppress(OSError):
                    path.unlink()
            return
        self._shards.append(rows)
        for row, digest in enumerate(about["digests"]):
            self._places[digest] = (len(self._shards) - 1, row)


def fill(
    caches: Sequence[FeatureCache],
    digests: Sequence[str],
    batches: Iterable[Sequence[np.ndarray]],
) -> None:
    """Write the features of these images into each of `caches`, batch by batch.

    All close their shards at the same images, so that a process that is stopped leaves the same
    in each. A shard is written while the next one is computed; at most two of each are in memory.

    Args:
        batches: of each batch of images the features for each of `caches`.
    """
    done, writing = 0, None
    with ThreadPoolExecutor(1) as writer:
        for shards in _in_shards(caches, batches, min(cache.per_shard for cache in caches)):
            if writing:
                writing.result()
            chosen = digests[done : done + len(shards[0])]
            writing = writer.submit(_write_shards, caches, chosen, shards)
            done += len(chosen)
        if writing:
            writing.result()


def _in_shards(
    caches: Sequence[FeatureCache], batches: Iterable[Sequence[np.ndarray]], size: int
) -> Iterator[list[np.ndarray]]:
    shards, filled = [], 0
    for batch in batches:
        start = 0
        while start < len(batch[0]):
            if not filled:
                shards = [np.empty((size, *cache.shape), cache.dtype) for cache in caches]
            taken = min(len(batch[0]) - start, size - filled)
            for shard, rows in zip(shards, batch, strict=True):
                shard[filled : filled + taken] = rows[start : start + taken]
            filled, start = filled + taken, start + taken
            if filled == size:
                yield shards
                filled = 0
    if filled:
        yield [shard[:filled] for shard in shards]


def _write_shards(
    caches: Sequence[FeatureCache], digests: Sequence[str], shards: Sequence[np.ndarray]
) -> None:
    for cache, rows in zip(caches, shards, strict=True):
        cache.write_shard(digests, rows)


def _checksum(entry: Path, digests: Sequence[str], rows: np.ndarray) -> str:
    checksum = hashlib.blake2b(memoryview(rows).cast("B"), digest_size=16)
    checksum.update(json.dumps([entry.name, list(digests)]).encode())
    return checksum.hexdigest()


def kept_digests(path: Path) -> set[str]:
    """Return the images whose features the entry at `path` holds, as far as sidecars say."""
    digests: set[str] = set()
    for sidecar in path.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            digests.update(parse_json(read_file(sidecar))["digests"])
    return digests


def list_entries(root: Path) -> list[Entry]:
    """Return the entries below `root`, the longest unused first."""
    entries = []
    for path in _folders(root):
        images, title, size, used = len(kept_digests(path)), UNFINISHED, 0, 0.0
        with contextlib.suppress(OSError, UnicodeDecodeError):
            title = printable(read_file(path / "title").decode("utf-8"))
        with contextlib.suppress(OSError):  # another process may be removing it
            used = path.stat().st_mtime
            size = sum(file.stat().st_size for file in path.glob("*.rows"))
        entries.append(Entry(path, title, size, images, used))
    return sorted(entries, key=lambda entry: entry.used)


def _folders(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if ENTRY.fullmatch(path.name) and path.is_dir()]
    except OSError:  # there is none, or none that may be read
        return []


def make_room(root: Path, needed: int, limit: int, own: Collection[Path] = ()) -> bool:
    """Remove the longest unused entries until `needed` bytes more keep the cache below `limit`.

    Args:
        own: the entries that are going to hold the `needed` bytes; what is in them counts as them.

    Returns:
        Whether there is room, on the disk as well (half of what is free stays free); nothing is
        removed if there cannot be.
    """
    if needed > limit:
        return False
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    entries = list_entries(root)
    held = sum(other.bytes for other in entries)
    if needed > (free + held) / 2:
        return False
    others = [other for other in entries if other.path not in own]
    total = sum(other.bytes for other in others)
    for other in others:
        if total + needed <= limit:
            break
        shutil.rmtree(other.path, ignore_errors=True)
        total -= other.bytes
    return True


def clear(root: Path) -> int:
    """Remove all entries, unfinished ones too; return the bytes set free."""
    entries = list_entries(root)
    for entry in entries:
        shutil.rmtree(entry.path, ignore_errors=True)
    return sum(entry.bytes for entry in entries if not entry.path.exists())
