"""Detections in the forms that other programs read: COCO results and YOLO text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.atomic import write_file
from tlkit.errors import DataError
from tlkit.evaluate.stems import CLASSES, Stems, begin_folder
from tlkit.tasks.detections import Found


@dataclass
class CocoResults:
    """Collects answers and writes them as COCO's results (https://cocodataset.org/#format-results).

    `path` holds a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`,
    boxes in pixels of the upright originals. The file beside it, with `-images` before its ending,
    says what the ids mean: `images` with `file_name`, `height` and `width`, `categories` with
    `name`; ids begin at 1, in the order of images and classes. Together they are read by
    `pycocotools.coco.COCO("found-images.json").loadRes("found.json")`.

    Attributes:
        path: of the results.
        names: of the classes.

    Raises:
        DataError: nothing can be written there.
    """

    path: Path
    names: Sequence[str]
    _images: list[dict[str, Any]] = field(default_factory=list)
    _results: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise DataError(
                f"{self.path}: cannot hold COCO results. Allowed: a file in a folder that is there"
            )
        if self.images_path.exists() and not self.path.exists():
            raise DataError(
                f"{self.images_path}: is there already, and {self.path.name} is not: it would be "
                "overwritten. Allowed: a file that has none of this name beside it"
            )

    @property
    def images_path(self) -> Path:
        """The file that says what the ids mean."""
        return self.path.with_name(f"{self.path.stem}-images{self.path.suffix}")

    def add(self, name: str, found: Found, height: int, width: int) -> None:
        """Take the answers for one image; without any it stands among the images all the same.

        Args:
            name: of the image, as it is to be called.
            height, width: of the upright image in pixels.
        """
        image = {"id": len(self._images) + 1, "file_name": name, "height": height, "width": width}
        self._images.append(image)
        for (x1, y1, x2, y2), score, k in zip(*_plain(found), strict=True):
            own = {"image_id": image["id"], "category_id": k + 1}
            box = [round(x, 3) for x in (x1, y1, x2 - x1, y2 - y1)]
            self._results.append({**own, "bbox": box, "score": round(score, 6)})

    def write(self) -> None:
        """Write both files.

        Raises:
            DataError: they cannot be written.
        """
        categories = [{"id": i, "name": name} for i, name in enumerate(self.names, start=1)]
        meaning = {"images": self._images, "categories": categories}
        for path, value in ((self.images_path, meaning), (self.path, self._results)):
            _write(path, json.dumps(value, ensure_ascii=False))


@dataclass
class YoloText:
    """Writes answers as YOLO's label files do, with a score behind: a file an image, a line an
    answer `class x y width height score`, the best first.

    x and y are of the centre; all four are fractions of the upright image, to which boxes are cut.
    Classes are numbers from 0 on, whose names `classes.txt` in the same folder has in order. An
    image without answers has an empty file. Files are called as the images are, with a number where
    that is taken. (Ultralytics writes the same with `save_txt` and `save_conf`.)

    Attributes:
        folder: a new or empty one.
        names: of the classes.

    Raises:
        DataError: the folder holds something, or cannot be made.
    """

    folder: Path
    names: Sequence[str]
    _stems: Stems = field(default_factory=lambda: Stems({Path(CLASSES).stem}))

    def __post_init__(self):
        begin_folder(self.folder, "--yolo", self.names)

    def add(self, name: str, found: Found, height: int, width: int) -> Path:
        """Write the answers for one image; return the file. See `CocoResults.add`.

        Raises:
            DataError: it cannot be written.
        """
        path, lines = self.folder / f"{self._stems.free(name)}.txt", []
        sides = np.array((width, height) * 2, np.float64)
        for box, score, k in zip(*_plain(found), strict=True):
            x1, y1, x2, y2 = np.clip(np.array(box) / sides, 0, 1)
            place = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            lines.append(f"{k} {' '.join(f'{x:.6f}' for x in place)} {score:.6f}\n")
        _write(path, "".join(lines))
        return path


def _plain(found: Found) -> tuple[list[list[float]], list[float], list[int]]:
    return found.boxes.tolist(), found.scores.tolist(), found.classes.tolist()


def _write(path: Path, text: str) -> None:
    try:
        write_file(path, text.encode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
