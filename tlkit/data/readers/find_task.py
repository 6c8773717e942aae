"""The task that data are for, by their form alone; looked at before TensorFlow is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tlkit.data.readers.folder_names import parts_of, says_images, says_masks

DEEPEST = 5
"""Folders around the data that are gone into."""

MASK_ENDINGS = (".png", ".gif", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def with_task(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec with the task of its data, where none is given."""
    found = None if "task" in fields else find_task(fields.get("data"))
    return {**fields, "task": found} if found else fields


def find_task(data: Any) -> str | None:
    """Return the task that data are for; None: they say nothing of it.

    A folder of masks beside one of images, in it or in its training part, is `segmentation`.
    """
    if not isinstance(data, str | Path) or not os.path.isdir(data):
        return None
    folder = os.fspath(data)
    for _ in range(DEEPEST):
        names = _folders(folder)
        if any(map(says_images, names)) and any(_holds_masks(folder, name) for name in names):
            return "segmentation"
        trains = [name for name, part in parts_of(names).items() if part == "train"]
        inner = trains or names
        if len(inner) != 1:
            return None
        folder = os.path.join(folder, inner[0])
    return None


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:  # said when it is listed
        return []


def _holds_masks(folder: str, name: str) -> bool:
    """Tell whether a folder called as one of masks holds images: annotations are text mostly."""
    if not says_masks(name):
        return False
    files = (file for _, _, own in os.walk(os.path.join(folder, name)) for file in own)
    return any(file.lower().endswith(MASK_ENDINGS) for file in files)
