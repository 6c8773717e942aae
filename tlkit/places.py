"""Whether what a person names is there to be read, or free to be written; asked before any work."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from tlkit.errors import DataError, RunFolderError, SpecError, printable


def check_there(data: str) -> None:
    """Check that `data` is there, as far as it is a path: not `tfds:NAME`, say.

    Raises:
        DataError: nothing is there.
    """
    if re.match(r"\w+:", data) or data.startswith("<"):
        return
    try:
        os.stat(data)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a NUL character
        raise DataError(
            f"data {printable(data)}: does not exist. Allowed: a folder of class folders, one with "
            "train, validation (val, valid) and test folders, a CSV file, tfds:NAME or example:NAME"
        ) from None
    except OSError:  # a folder that may not be read, say: told by who reads it
        return


OWN_TABLES = ("predictions.csv", "log.csv")
"""Tables of a run; others in its folder may be replaced."""


def check_csv(path: Path, model: Path, *read: object) -> None:
    """Check that a table can be written to `path`, and replaces nothing that it is made from.

    Args:
        model: the folder of the run or export that answers.
        read: what it answers on; what is no path is passed over.

    Raises:
        SpecError: it is a folder, its folder does not exist, or it is a file of the run or export,
            or one that is read.
    """
    if not path.resolve().parent.is_dir():
        raise SpecError(f"--csv {path}: its folder does not exist")
    if path.is_dir():
        raise SpecError(f"--csv {path}: is a folder. Allowed: a file")
    if path.is_file():
        own = (p for p in model.rglob("*") if p.suffix != ".csv" or p.name in OWN_TABLES)
        for other in (*own, *(item for item in read if isinstance(item, str | Path))):
            with contextlib.suppress(OSError, ValueError):
                if os.path.samefile(path, other):
                    raise SpecError(
                        f"--csv {path}: would replace {printable(str(other))}, which the answers "
                        "come from. Allowed: another file"
                    )


def check_free(path: Path, resumable: bool = True) -> None:
    """Check that a folder can be made at `path`.

    Args:
        resumable: it is for a run, with which one could go on if it is there already.

    Raises:
        RunFolderError: it holds something already, or a parent is a file.
    """
    try:
        if path.is_dir() and any(path.iterdir()):
            more = f", or --resume {path}" if resumable else ""
            raise RunFolderError(
                f"--out {path}: is not empty. Allowed: a new or empty folder{more}"
            )
        for parent in (path, *path.parents):
            if parent.exists():
                if not parent.is_dir():
                    raise RunFolderError(
                        f"--out {path}: {parent} is a file. Allowed: a new or empty folder"
                    )
                return
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise RunFolderError(f"--out {path}: cannot be made: {error.strerror}") from error
