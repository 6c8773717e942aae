"""The task that data are for, by their form alone; looked at before TensorFlow is imported."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from tlkit.data.box_targets import CORNERS, DetectionTargets
from tlkit.data.pictures.files import parse_json, read_file
from tlkit.data.readers.annotated import form_of_annotations
from tlkit.data.readers.folder_names import parts_of, says_images, says_masks
from tlkit.data.readers.form import ABOUT, form_of, is_table
from tlkit.data.readers.read_annotated import read_annotated
from tlkit.data.readers.rows import read_rows
from tlkit.errors import DataError
from tlkit.spec.tables import TableSpec

DEEPEST = 5
"""Folders around the data that are gone into."""

FOUND = ("segmentation", "localisation", "detection")
"""Tasks that are found from the data; others are asked for."""

OUTLINED = 0.5
"""Share of objects with outlines above which these are what the data is for."""

MASK_ENDINGS = (".png", ".gif", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def with_task(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec, nested as in YAML, with the task of its data.

    One that was asked for stays. The reader says what was found, and how to ask for another.
    """
    found = None if "task" in fields else find_task(fields.get("data"), fields.get("table"))
    return {**fields, "task": found} if found else fields


def find_task(data: Any, table: Any = None) -> str | None:
    """Return the task that data are for; None: they say nothing of it.

    A folder of masks beside one of images, in it or in its training part, is `segmentation`;
    so are annotations with polygons or run lengths; with boxes alone they, or a table with their
    corners, are `localisation` where each image has one, else `detection`.

    Args:
        table: how a table is read, fields of `TableSpec`.

    Raises:
        DataError: a folder of images has a table of boxes beside them, which might be meant.
    """
    if not isinstance(data, str | Path):
        return None
    form, data = form_of(data), os.fspath(data)
    if form == "table":
        return _boxes_of(data, table)
    if form == "dataset":
        return _prepared_for(Path(data))
    if form == "annotations":
        return _objects_of(data)
    if form != "folder" or not os.path.isdir(data):
        return None
    if has_masks(data):
        return "segmentation"
    if not form_of_annotations(Path(data)):
        _check_tables(data, table)
        return None
    return _objects_of(data)


def _prepared_for(folder: Path) -> str | None:
    """Return the task that `tlkit data prepare` wrote a data set for, where its form says it."""
    try:
        task = parse_json(read_file(folder / ABOUT))["task"]
    except (OSError, ValueError, KeyError, TypeError):  # said when it is listed
        return None
    return task if task in FOUND else None


def _objects_of(data: str) -> str:
    """Return the task that annotations are for."""
    try:
        listing = read_annotated(data, DetectionTargets())
    except DataError:  # said where the data is read
        return "detection"
    labels = [e.label for own in listing.parts.values() for e in own]
    every = [box for label in labels for box in label.boxes]
    if sum(box.outlined for box in every) > OUTLINED * len(every):
        return "segmentation"
    return "localisation" if all(len(label.sound) <= 1 for label in labels) else "detection"


def _boxes_of(path: str, table: Any) -> str | None:
    """Return the task that a table of boxes is for; None: it is none of boxes."""
    try:
        asked = TableSpec.model_validate(table or {})
        rows = read_rows(Path(path), asked, [asked.image, *CORNERS], lambda text: False, [])
    except (DataError, ValueError):  # said where the data is read
        return None
    if asked.targets or not set(CORNERS) <= set(rows.header):
        return None
    boxes = Counter()
    for _, row in rows.rows:
        boxes[row.get(asked.image)] += any(row[name] for name in CORNERS)
    return "localisation" if set(boxes.values()) <= {0, 1} else "detection"


def _check_tables(folder: str, table: Any) -> None:
    """Refuse a folder that may stand for the classes of its folders or for the boxes of a table."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:  # said when it is listed
        return
    for path in (os.path.join(folder, name) for name in names):
        if is_table(path) and os.path.isfile(path) and _boxes_of(path, table):
            raise DataError(
                f"data {folder}: {os.path.basename(path)} in it has boxes ({', '.join(CORNERS)}). "
                f"Allowed: {path}, for them, or --set task=classification, for its folders"
            )


def has_masks(folder: str | Path) -> bool:
    """Tell whether a folder, or its training part, holds a folder of masks beside one of images."""
    folder = os.fspath(folder)
    for _ in range(DEEPEST):
        names = _folders(folder)
        if any(map(says_images, names)) and any(_holds_masks(folder, name) for name in names):
            return True
        trains = [name for name, part in parts_of(names).items() if part == "train"]
        inner = trains or names
        if len(inner) != 1:
            return False
        folder = os.path.join(folder, inner[0])
    return False


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
