"""What to say of a folder in which class folders are looked for and none is found."""

from __future__ import annotations

import os
from pathlib import Path

from tlkit.data.pictures.files import EXTENSIONS
from tlkit.data.readers.tree import Tree, count_others, counted
from tlkit.errors import DataError, printable


def no_classes(level: Tree, folder: Path) -> DataError:
    """Return the error for a level without class folders.

    Args:
        level: where they were looked for.
        folder: the data that was given; `level` is it, or lies in it.
    """
    loose, hint, others = len(level.images), "", count_others(level.below())
    found = f", but {counted(others)}" if others else ""
    if loose:
        hint = "; for the folder of one class give the one above it, for labels in a table " + (
            _table(level.path, os.fspath(folder)) or "a CSV file"
        )
    received = f"{loose} images outside class folders" if loose else f"no images{found}"
    return DataError(
        f"data {level.path}: needs one folder for each class, with images in it "
        f"({', '.join(EXTENSIONS[:8])}, ...){hint}. Received: {received}"
    )


def _table(path: str, top: str) -> str | None:
    """Return a CSV file in a folder, or in the nearest of those around it up to `top`."""
    while True:
        names = sorted(os.listdir(path))
        if table := next((name for name in names if name.lower().endswith(".csv")), None):
            return printable(os.path.join(path, table))
        if len(path) <= len(top):
            return None
        path = os.path.dirname(path)
