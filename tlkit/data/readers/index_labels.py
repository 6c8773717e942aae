"""Labels in the index of a prepared data set, as JSON."""

from __future__ import annotations

from typing import Any

from tlkit.data.annotations import Annotations, Box
from tlkit.data.example import FileLabel, content_digest
from tlkit.data.readers.records import Records


def index_label(label: Any) -> Any:
    """Return a label as JSON has it in an index: a mask by its hash, boxes with their image's size.

    Both are of the upright image.
    """
    if isinstance(label, FileLabel):
        return {"mask": content_digest(label.read()), "shape": label.shape}
    if isinstance(label, Annotations):
        boxes = [[box.name, *box.corners, box.aside] for box in label.boxes]
        return {"boxes": boxes, "shape": (label.height, label.width)}
    return label


def read_label(value: Any, records: Records | None, number: int) -> Any:
    """Return what `index_label` wrote of the label in a record."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    height, width = map(int, value["shape"])
    if "mask" in value:
        own = {"records": records, "number": number}
        return FileLabel(records.folder, value["mask"], (height, width), **own)
    boxes = tuple(
        Box(name, tuple(map(float, corners)), aside) for name, *corners, aside in value["boxes"]
    )
    return Annotations(boxes, height, width, fitted=True)
