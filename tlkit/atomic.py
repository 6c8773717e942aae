"""A file or a folder written in one step, and what killed processes left of such writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

ABANDONED = 3600.0
"""Seconds after which the draft of a process that cannot be asked for, on another machine or in
another container, counts as left behind."""


def _here() -> str:
    """Return eight characters that stand for the space of process numbers that this one is in."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b(f"{platform.node()} {space}".encode(), digest_size=4).hexdigest()


def _prefix(target: Path) -> str:
    return f".{target.name[:40]}-draft-"  # the whole name would be too long for some


@contextlib.contextmanager
def folder_draft(target: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[Path]:
    """Give a new folder beside `target` to write into, which becomes `target` at the end.

    Of a write that fails nothing is left; drafts that killed processes left are removed first.

    Args:
        target: a new or empty folder; its parent is made.
        say: is told what was removed.

    Raises:
        OSError: it cannot be made.
    """
    target = Path(os.path.abspath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in remove_leftovers(target):
        say(f"{path}: left by a process that was killed, removed")
    draft = Path(
        tempfile.mkdtemp(dir=target.parent, prefix=f"{_prefix(target)}{_here()}-{os.getpid()}-")
    )
    try:
        yield draft
        draft.chmod(0o755)
        os.replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def file_draft(target: Path, prefix: str = ".draft-", shared: bool = False) -> Iterator[Path]:
    """Give a path beside `target` to write to, which becomes `target` in one step at the end.

    A reader sees the old file or the new one; of a write that fails nothing is left. The next write
    takes the place of a draft that a killed process left.

    Args:
        shared: several processes may write `target` at once: each draft has a name of its own.
    """
    # With its ending, for Keras goes by it; a long name would be too long with the prefix.
    draft = target.with_name(f"{prefix}{uuid.uuid4().hex if shared else target.name[-60:]}")
    try:
        yield draft
        os.replace(draft, target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_file(target: Path, content: bytes) -> None:
    """Write a file in one step; what is none, such as a pipe or /dev/stdout, is written to.

    Of a link that leads to a file it is that file which is replaced.

    Raises:
        OSError: it cannot be written.
    """
    if target.exists() and not target.is_file():
        target.write_bytes(content)
        return
    with file_draft(target.resolve()) as draft:
        draft.write_bytes(content)


def remove_leftovers(target: Path) -> list[Path]:
    """Remove the drafts of `target` whose process is gone; return them."""
    prefix, removed = _prefix(target), []
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(prefix) and _is_left(path, path.name[len(prefix) :]):
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed


def _is_left(path: Path, name: str) -> bool:
    """Tell whether nobody writes a draft any more; `name`: its own part of the name."""
    space, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    if not number.isdigit():
        return False
    if space == _here():
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # it is another user's
            return False
        return False
    with contextlib.suppress(OSError):
        newest = max(entry.stat().st_mtime for entry in (path, *path.rglob("*")))
        return newest < time.time() - ABANDONED
    return False
