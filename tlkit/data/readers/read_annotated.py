"""Reads annotations of whatever form they have."""

from __future__ import annotations

from pathlib import Path

from tlkit.data.example import Listing
from tlkit.data.readers.annotated import form_of_annotations
from tlkit.data.readers.coco import read_coco
from tlkit.data.readers.voc import read_voc
from tlkit.data.readers.yolo import read_yolo
from tlkit.data.targets import Targets
from tlkit.errors import DataError


def read_annotated(data: str | Path, targets: Targets) -> Listing:
    """List images with what is drawn in them: a folder, a file of COCO JSON, or data.yaml.

    Raises:
        DataError: there are no annotations, or see the reader of their form.
    """
    path = Path(data)
    if path.is_file():
        return (read_coco if path.suffix == ".json" else read_yolo)(path, targets)
    form = form_of_annotations(path)
    if form is None:
        raise DataError(
            f"data {path}: holds no annotations with boxes. Allowed: Pascal VOC XML, COCO JSON or "
            "YOLO text beside its images, or a CSV file with image, label, x1, y1, x2, y2"
        )
    return {"voc": read_voc, "coco": read_coco, "yolo": read_yolo}[form](path, targets)
