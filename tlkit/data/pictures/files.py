"""Reading the files of strangers: regular files alone, and never more than an image can need."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from tlkit.data.pictures.limits import MAX_PIXELS

# What counts as an image when a folder is listed. Those that no decoder here takes are listed
# too: they have to be named as left out rather than be overlooked.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".tga", ".ico", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".psd", ".mpo"),
    *(".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic", ".heif", ".svg", ".dng", ".cr2", ".nef"),
)
MAX_BYTES = 4 * MAX_PIXELS + 2**20
"""Largest file that is read: the most pixels allowed, uncompressed at 32 bits (BMP), and a header.
A sparse file of a terabyte takes no room on a disk, but would take it in memory."""


def check_regular(path: str | os.PathLike) -> int:
    """Check that `path` is a regular file, links followed; return its size in bytes.

    Raises:
        OSError: it is none, such as a pipe or a device (reading one may never end); `strerror`
            says so.
    """
    try:
        about = os.stat(path)
    except ValueError as error:  # "embedded null byte"
        raise OSError(errno.EINVAL, "its name holds a NUL byte") from error
    if stat.S_ISDIR(about.st_mode):
        raise OSError(errno.EISDIR, "is a folder, or a link to one, which is not followed here")
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, no file")
    return about.st_size


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file; links are followed, wherever they lead.

    Raises:
        OSError: it cannot be read, see `check_regular`, or is larger than `MAX_BYTES`; `strerror`
            says so.
    """
    size = check_regular(path)
    if size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"too large: {size:,} bytes, at most {MAX_BYTES:,} are allowed")
    with open(path, "rb") as file:
        return file.read(MAX_BYTES)  # it may have grown since


def parse_json(content: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none, or nested deeper than Python reads.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
