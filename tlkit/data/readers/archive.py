"""A zip file as data: unpacked once below the cache folder, as the file of a stranger has to be."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tlkit.atomic import folder_draft
from tlkit.data.readers.laid_out import mark, remove, sealed_times, stamp, write_seal
from tlkit.data.readers.tree import RUBBISH
from tlkit.errors import DataError, printable
from tlkit.places import unpacked_folder

MOST_FILES = 1_000_000
"""Files that a zip file may hold."""

RATIO, SMALL = 50, 2**26
"""Times its own size that a zip file may take unpacked, and bytes that it may take in any case.
Images hardly shrink; deflate packs zeros 1,032 times (https://zlib.net/zlib_tech.html), and bombs
that overlap (Fifield 2019) millions of times."""

KEPT_FREE = 2**30
"""Bytes of the disk that stay free."""

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
UNPACK = {TAR: "tar -xf {} -C {}", (".7z", ".rar"): "7z x {} -o{}"}
"""What a person types to unpack an archive of another kind, by the endings of its name."""

_FAILURES = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


def unpack(path: Path) -> Path:
    """Return the folder with the content of a zip file; made at the first use of its state.

    It is made anew if its files are no longer those that the zip file says it holds (by name, size
    and CRC-32). Nothing is written outside that folder; links, encrypted files and bombs are
    refused.

    Raises:
        DataError: it cannot be read, or holds what is refused; nothing is left behind then.
    """
    about = os.stat(path)
    state = f"{path.resolve()}:{about.st_size}:{about.st_mtime_ns}"
    key = hashlib.blake2b(os.fsencode(state), digest_size=8).hexdigest()
    folder = unpacked_folder() / key
    expected = None
    try:
        with zipfile.ZipFile(path) as archive:
            names = _checked(path, archive, about.st_size)
            expected = {name: stamp(name, _content(info)) for info, name in names.items()}
            if _is_whole(folder, expected):
                return folder
            remove(folder)
            with folder_draft(folder) as draft:
                _check_room(path, names, draft)
                for info, name in names.items():
                    _write(archive, info, draft / name)
                    mark(draft, name, _content(info))
                write_seal(folder, "unpacked")
    except _FAILURES as error:
        reason = printable(" ".join(str(error).split()))[:200]  # it may quote bytes of the file
        raise DataError(f"data {path}: is no zip file that can be read: {reason}") from error
    except OSError as error:
        if not _is_whole(folder, expected):  # else another process was quicker, with the same files
            raise DataError(f"data {path}: cannot be unpacked: {error.strerror}") from error
    return folder


def refuse_archive(path: Path) -> None:
    """Raise a DataError that says how to unpack, if `path` is an archive of another kind."""
    ends = path.name.lower().endswith
    command = next((text for endings, text in UNPACK.items() if ends(endings)), None)
    if command and path.is_file():
        out = shlex.quote(str(path.with_name(f"{path.name.partition('.')[0]}-data")))
        typed = command.format(shlex.quote(str(path)), out)
        raise DataError(
            f"data {path}: is an archive. Allowed: a zip file, or the folder that it is unpacked "
            f"into: mkdir {out} && {typed} && tlkit train {out}"
        )


def _checked(path: Path, archive: zipfile.ZipFile, size: int) -> dict[zipfile.ZipInfo, str]:
    """Return the files to unpack with their names below the folder."""
    names: dict[zipfile.ZipInfo, str] = {}
    for info in archive.infolist():
        name = _name(info)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if info.is_dir() or name.endswith("/") or RUBBISH & {part.lower() for part in parts}:
            continue
        problem = None
        if ".." in parts or name.startswith("/") or os.path.splitdrive(name)[0]:
            problem = "leads out of the folder"
        elif stat.S_ISLNK(info.external_attr >> 16):  # the upper half is Unix's st_mode
            problem = "is a link"
        elif info.flag_bits & 1:  # APPNOTE 4.4.4
            problem = "is encrypted"
        if problem:
            raise DataError(
                f"data {path}: {printable(name)} {problem}. Allowed: a zip file of plain files, or "
                "the folder that it is unpacked into"
            )
        names[info] = "/".join(parts)
    total = sum(info.file_size for info in names)
    if len(names) > MOST_FILES or total > max(RATIO * size, SMALL):
        raise DataError(
            f"data {path}: is no zip file of images, or made to fill a disk. Allowed: up to "
            f"{MOST_FILES:,} files and {RATIO} times its size. Received: {len(names):,} files, "
            f"{total:,} bytes from {size:,}"
        )
    return names


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a file with `/`; UTF-8 even where only its bytes say so (macOS's)."""
    name = info.filename
    if not info.flag_bits & 0x800:  # else it is said to be UTF-8: APPNOTE 4.4.4, bit 11
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _check_room(path: Path, names: dict[zipfile.ZipInfo, str], folder: Path) -> None:
    total, free = sum(info.file_size for info in names), shutil.disk_usage(folder).free
    if total > free - KEPT_FREE:
        raise DataError(
            f"data {path}: takes {total:,} bytes unpacked below {unpacked_folder()}, with "
            f"{free:,} free. Set TLKIT_CACHE to a folder on a larger disk, or give the folder that "
            "it is unpacked into"
        )


def _is_whole(folder: Path, expected: dict[str, int] | None) -> bool:
    try:
        return folder.is_dir() and sealed_times(folder) == expected
    except OSError:
        return False


def _content(info: zipfile.ZipInfo) -> str:
    return f"{info.file_size} {info.CRC}"


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # No more than the size that was counted is read: `ZipExtFile` ends there. Nor twice one name.
    with archive.open(info) as packed, open(target, "xb") as file:
        shutil.copyfileobj(packed, file, 2**20)
