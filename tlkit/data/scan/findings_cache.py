"""What earlier scans found, kept on disk: a file that has not changed is not looked at again.

A file is known by its path, size, inode and the times of the last change of content and of status
(mtime, ctime). Two states of one file could share all five only if the second came within the tick
of the clock in which the first was looked at; as git does with its index ("Racy Git",
https://git-scm.com/docs/racy-git), what had changed within `RACY` before the look is therefore not
kept. ctime cannot be set by a program, so a restored mtime (`touch -r`, `rsync -t`) hides nothing;
two files that change names bring their inodes with them, and a copy has an inode or a ctime of its
own. What this rule still lets through (a page mapped for writing, a server whose clock is behind)
costs no more than a message: each later read is held against the hash found here (`reading`).

The findings of one tree of files lie in one file, which is replaced as a whole: concurrent runs see
the old one or the new one, and the last to end keeps what the others had found before it wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import PIL
import tensorflow as tf

from tlkit.atomic import file_draft
from tlkit.data.pictures.files import MAX_BYTES, read_file
from tlkit.data.pictures.gif_bmp_webp import MAX_PIXELS
from tlkit.data.scan.inspect import Finding
from tlkit.places import cache_folder

FORMAT = 4
"""Number of this layout; raised when files written before could be misread."""

MADE_BY = [FORMAT, tf.__version__, PIL.__version__, MAX_PIXELS, MAX_BYTES]
"""What findings depend on besides the file; those made by anything else are not used."""

RACY = 2_000_000_000
"""Nanoseconds within which two changes may carry one time: 2 s on FAT, the coarsest in use."""

LIMIT = 256 * 2**20
"""Bytes that all findings may take on disk, at about 200 an image."""

State = tuple[int, int, int, int]
"""Size, mtime in ns, ctime in ns, inode."""


def scan_folder() -> Path:
    """Return the folder that holds the findings."""
    return cache_folder() / "scan"


def state_of(path: str | os.PathLike) -> State | None:
    """Return the state of a file, links followed; None if there is none."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


class Verdicts:
    """The findings kept of the files below one folder.

    Args:
        paths: the files of a scan; their common folder tells which findings are read.
    """

    def __init__(self, paths: Iterable[str]):
        folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
        root = os.path.commonpath(folders) if folders else ""
        name = hashlib.blake2b(os.fsencode(root), digest_size=16).hexdigest()
        self.path = scan_folder() / f"{name}.json"
        # Rows stay the text they are on disk: as objects 50,000 of them take 50 MiB more.
        self._rows = _read(self.path)
        self._seen = state_of(self.path)
        self._new: dict[str, str] = {}

    def get(self, path: str, state: State | None) -> Finding | None:
        """Return what was found of a file in this state, or None."""
        row = self._rows.get(_full(path))
        if row is None or state is None:
            return None
        before, found = json.loads(row)
        return Finding(*found) if before == list(state) else None

    def put(self, path: str, state: State | None, looked: int, finding: Finding) -> None:
        """Keep a finding.

        Args:
            state: of the file before the look.
            looked: time in ns before `state` was read.
        """
        if state is None or max(state[1:3]) > looked - RACY or state_of(path) != state:
            return
        row = json.dumps([state, finding], separators=(",", ":"))
        self._new[_full(path)] = row

    def save(self) -> None:
        """Write what is new; a disk that takes nothing costs the next scan time, nothing else."""
        if not self._new:
            return
        if state_of(self.path) != self._seen:  # a concurrent scan has written since
            self._rows |= _read(self.path)
        self._rows = {path: row for path, row in self._rows.items() if os.path.exists(path)}
        self._rows |= self._new
        self._new = {}
        with contextlib.suppress(OSError):
            _write(self.path, self._rows)
        self._seen = state_of(self.path)


def forget(kept: Path, files: Iterable[str]) -> None:
    """Remove what the findings in `kept` say of these files, by absolute path."""
    rows, gone = _read(kept), set(files)
    if gone.intersection(rows):
        with contextlib.suppress(OSError):
            _write(kept, {path: row for path, row in rows.items() if path not in gone})


def _full(path: str) -> str:
    """Return the absolute path; the very string where it is one, which costs no memory."""
    full = os.path.abspath(path)
    return path if path == full else full


def _read(path: Path) -> dict[str, str]:
    """Return the rows of a file; none if it is damaged, foreign or made by other versions."""
    try:
        body, _, checksum = read_file(path).rpartition(b"\n")
        if checksum.decode("ascii") != hashlib.blake2b(body, digest_size=16).hexdigest():
            return {}
        lines = iter(body.decode("ascii").split("\n"))
        if json.loads(next(lines)) != MADE_BY:
            return {}
        with contextlib.suppress(OSError):  # a folder that is read alone
            os.utime(path)
        pairs = (line.split("\t", 1) for line in lines)
        return {json.loads(name): row for name, row in pairs}
    except (OSError, ValueError):
        return {}


def _write(path: Path, rows: dict[str, str]) -> None:
    """Write rows line by line, their hash last; the whole text is never in memory."""
    length = sum(len(json.dumps(name)) + len(row) + 2 for name, row in rows.items())
    if length > LIMIT:
        return
    _make_room(path, length)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=16)
    with file_draft(path, shared=True) as draft, draft.open("wb") as file:
        head = json.dumps(MADE_BY).encode("ascii")
        digest.update(head)
        file.write(head)
        for name, row in rows.items():
            line = f"\n{json.dumps(name)}\t{row}".encode("ascii")
            digest.update(line)
            file.write(line)
        file.write(f"\n{digest.hexdigest()}".encode("ascii"))


def _make_room(path: Path, needed: int) -> None:
    """Remove the longest unused files, and drafts of killed processes, down to the limit."""
    for draft in path.parent.glob(".draft-*"):
        with contextlib.suppress(OSError):
            if draft.stat().st_mtime < time.time() - 3600:
                draft.unlink()
    others = [file for file in path.parent.glob("*.json") if file != path]
    total = needed + sum(file.stat().st_size for file in others)
    for file in sorted(others, key=lambda file: file.stat().st_mtime):
        if total <= LIMIT:
            return
        total -= file.stat().st_size
        file.unlink(missing_ok=True)
