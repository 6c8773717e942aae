"""Whether what a person names is there to be read, or free to be written; asked before any work."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from pathlib import Path

import platformdirs

from tlkit.errors import DataError, RunFolderError, SpecError, TlkitError, printable


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


def run_of(path: Path) -> Path:
    """Return the run folder that `path` is, or in which it is the `model.keras`."""
    named = path.name == "model.keras" and (path.parent / "spec.yaml").is_file()
    return path.parent if named else path


def unfolded(path: Path) -> list[Path]:
    """Return the files that a pattern such as `images/*.jpg` stands for, which no shell unfolded.

    Nothing where it is no pattern, a file bears that very name, or none matches.
    """
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return []
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]


def the_one(data: str) -> str:
    """Return the path that `data` stands for where it is a pattern; else `data`.

    Raises:
        DataError: it matches several.
    """
    found = unfolded(Path(data))
    if len(found) > 1:
        raise DataError(
            f"data {printable(data)}: matches {len(found)} paths. Allowed: one. "
            f"Received: {', '.join(printable(str(path)) for path in found[:3])}, ..."
        )
    return str(found[0]) if found else data


OWN_TABLES = ("predictions.csv", "log.csv")
"""Tables of a run; others in its folder may be replaced."""


DRAWN = "tlkit"
"""What PNG files that tlkit draws say of their `Software` (PNG specification, 11.3.3.2)."""

TABLE_HEADS = (b"id,", b"path,")
"""How the tables begin that tlkit writes: of evaluations, and of predictions."""


def check_png(path: Path, option: str = "--out") -> None:
    """Check that a drawing can be written to `path`, and replaces at most an earlier drawing.

    Raises:
        SpecError: it is no name of a PNG file, its folder is missing, or what is there is not
            tlkit's: an image of the data, say.
    """
    folder = os.path.dirname(path) or "."
    if path.suffix.lower() != ".png" or os.path.isdir(path) or not os.path.isdir(folder):
        raise SpecError(
            f"{option}: must be a PNG file in a folder that exists. Allowed: such as NAME.png. "
            f"Received: {path}"
        )
    if _holds(path) and not _is_drawn(path):
        raise SpecError(
            f"{option} {path}: is there, and tlkit did not draw it. Allowed: a new file, or a "
            "drawing of an earlier call"
        )


def _holds(path: Path) -> bool:
    """Tell whether `path` is a file with anything in it; /dev/stdout is none."""
    return os.path.isfile(path) and os.path.getsize(path) > 0


def _is_drawn(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == DRAWN
    except Exception:  # whatever Pillow raises at what is no PNG
        return False


def _is_own_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(max(map(len, TABLE_HEADS))).startswith(TABLE_HEADS)
    except OSError:
        return False


def check_csv(path: Path, model: Path, *read: object) -> None:
    """Check that a table can be written to `path`, and replaces nothing that it is made from.

    Args:
        model: the folder of the run or export that answers.
        read: what it answers on; what is no path is passed over.

    Raises:
        SpecError: it is a folder, its folder does not exist, or it is a file of the run or export,
            or one that is read, or no table of tlkit's.
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
        if _holds(path) and not _is_own_table(path):
            raise SpecError(
                f"--csv {path}: is there, and tlkit did not write it. Allowed: a new file, or a "
                "table of an earlier call"
            )


def check_free(
    path: Path,
    option: str = "--out",
    error: type[TlkitError] = RunFolderError,
    resumable: bool = False,
) -> None:
    """Check that a folder can be made at `path`.

    Args:
        option: that names it.
        error: what is raised.
        resumable: it is for a run, with which one could go on if it is there already.

    Raises:
        RunFolderError: or what `error` says: it holds something already, or a parent is a file.
    """
    problem, more = "", ""
    try:
        there = next((parent for parent in (path, *path.parents) if parent.exists()), None)
        if there is not None and not there.is_dir():
            problem = "is a file" if there == path else f"{there} is a file"
        elif there == path and any(path.iterdir()):
            problem, more = "is not empty", f", or --resume {path}" if resumable else ""
    except OSError as reason:  # a name that is too long, a folder that may not be read
        problem = f"cannot be made: {reason.strerror}"
    if problem:
        raise error(f"{option} {path}: {problem}. Allowed: a new or empty folder{more}")


def cache_folder() -> Path:
    """Return tlkit's cache folder: `TLKIT_CACHE`, or `tlkit` in the user's cache folder."""
    return Path(os.environ.get("TLKIT_CACHE") or platformdirs.user_cache_dir("tlkit"))


def unpacked_folder() -> Path:
    """Return the folder that holds what was unpacked of zip files."""
    return cache_folder() / "unpacked"
