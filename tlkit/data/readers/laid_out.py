"""Folders of images laid out below the cache: believed only as long as they are as laid out.

Each file bears a time, long past, that is a hash of its name and of what it was made from. One that
was written, moved or lost since (a cleaner of old caches, a removal that was stopped, a person) is
told by a look at the folder, without reading it. Beside the folder lies its seal, written last: a
file whose status changed later (ctime, which no program can set) is another, whatever its time. A
cache that was copied is made anew for that, once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tlkit.atomic import file_draft

FIRST = 10**9
"""The earliest of these times, in seconds: in 2001, after all that file systems begin with."""


def stamp(name: str, made_from: str = "") -> int:
    """Return the time of a file in seconds: even, as FAT keeps no others, and before 2019."""
    digest = hashlib.blake2b(os.fsencode(f"{name}\0{made_from}"), digest_size=8).digest()
    return FIRST + 2 * (int.from_bytes(digest, "little") % 2**28)


def mark(folder: Path, name: str, made_from: str = "") -> None:
    """Give the file `name` below `folder` its time."""
    os.utime(folder / name, (stamp(name, made_from),) * 2)


def seal_of(folder: Path) -> Path:
    """Return the seal of a folder."""
    return folder.with_name(f"{folder.name}.names")


def write_seal(folder: Path, text: str) -> None:
    """Write the seal of a folder whose files have all been written and marked, in one step."""
    seal = seal_of(folder)
    if seal.is_dir() and not seal.is_symlink():
        remove(seal)  # of all that may stand there, a file cannot be put in the place of this alone
    with file_draft(seal, shared=True) as draft:
        draft.write_text(text, encoding="ascii")


def sealed_times(folder: Path) -> dict[str, int]:
    """Return the `times` of a folder that was sealed.

    Raises:
        OSError: it has no seal.
    """
    return times(folder, os.lstat(seal_of(folder)).st_ctime_ns)


def times(folder: Path, sealed: int | None = None) -> dict[str, int]:
    """Return the time of each file below `folder`, in seconds, by its name there.

    Args:
        sealed: in ns; a file whose status changed later has the time 0.
    """
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            about = os.lstat(path)
            changed = sealed is not None and about.st_ctime_ns > sealed
            name = os.path.relpath(path, folder).replace(os.sep, "/")
            found[name] = 0 if changed else int(about.st_mtime)
    return found


def remove(folder: Path) -> None:
    """Remove what stands where a folder is to be laid out, if anything does."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
