"""The form of data: a folder, a table, ...; asked before anything heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tlkit.data.readers.rows import TABLES

ANNOTATIONS = (".json", ".yaml", ".yml")
"""Endings of files that name images and what is drawn in them: COCO JSON, YOLO's data.yaml."""

ABOUT = "tlkit.json"
"""The file in which `tlkit data prepare` says what it wrote."""


def form_of(data: Any) -> str:
    """Return the form of data, the first half of a key of `READERS`."""
    if isinstance(data, str) and data.startswith(("example:", "tfds:")):
        return data.partition(":")[0]
    if not isinstance(data, str | Path):
        return "arrays"
    if is_table(data):
        return "table"
    if Path(data).suffix in ANNOTATIONS and os.path.isfile(data):
        return "annotations"
    return "dataset" if is_dataset(Path(data)) else "folder"


def is_table(data: Any) -> bool:
    """Tell whether `data` names a file that is read as a table."""
    if not isinstance(data, str | Path) or str(data).startswith(("example:", "tfds:")):
        return False
    return Path(data).suffix.lower() in TABLES and not os.path.isdir(data)


def is_dataset(folder: Path) -> bool:
    """Tell whether `folder` holds a data set that TensorFlow Datasets' writers made.

    One of `tlkit data prepare` is known by its own file too, whatever else is left of it.
    """
    try:
        return (folder / ABOUT).is_file() or all(
            (folder / name).is_file() for name in ("dataset_info.json", "features.json")
        )
    except OSError:  # a name that is too long, a folder that may not be read: said later
        return False
