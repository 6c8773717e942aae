"""Folders of files that are written for images, and the names of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.atomic import write_file
from tlkit.errors import DataError
from tlkit.places import check_free

CLASSES = "classes.txt"
"""Names of the classes in order, where files hold their numbers."""


@dataclass
class Stems:
    """Gives each image a file name of its own, without ending; those that differ in case alone are
    one on some disks.

    Attributes:
        used: names that are taken, in lower case.
    """

    used: set[str] = field(default_factory=set)

    def free(self, name: str) -> str:
        """Return an image's name without folders and ending, with a number where it is taken."""
        stem = own = Path(name).stem or "image"
        number = 1
        while own.casefold() in self.used:
            number += 1
            own = f"{stem}-{number}"
        self.used.add(own.casefold())
        return own


def begin_folder(folder: Path, option: str, names: Sequence[str] | None = None) -> None:
    """Make a folder for files of answers.

    Args:
        folder: a new or empty one.
        option: that asked for it, for an error message.
        names: of the classes, for `CLASSES` in it; None: the files hold no numbers of classes.

    Raises:
        DataError: it holds something, or cannot be made.
    """
    check_free(folder, option, DataError)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if names is not None:
            write_file(folder / CLASSES, "".join(f"{name}\n" for name in names).encode("utf-8"))
    except OSError as error:
        raise DataError(f"{option} {folder}: cannot be written: {error.strerror}") from error
