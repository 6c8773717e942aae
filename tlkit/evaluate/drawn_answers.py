"""Answers as images: maps of classes in files, and answers drawn over their images."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.atomic import write_file
from tlkit.data.mask_colours import palette
from tlkit.data.pictures.decode import decode
from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import DataError, SpecError
from tlkit.evaluate.stems import Stems, begin_folder
from tlkit.tasks.task import Task


@dataclass
class DrawnAnswers:
    """Writes what is asked for of each answer, of the size of the upright original.

    Attributes:
        masks: a new or empty folder for maps of classes, PNG with a palette: the value of a pixel
            is the number of its class, and `classes.txt` there has their names in order. None:
            none are written.
        overlay: one for images with their answers drawn over them; likewise.

    Raises:
        SpecError: the task's answers are no maps, or cannot be drawn; or both folders are one.
        DataError: a folder holds something, or cannot be made.
    """

    task: Task
    rendering: Rendering
    masks: Path | None = None
    overlay: Path | None = None
    _stems: Stems = field(default_factory=Stems)

    def __post_init__(self):
        if self.masks is not None and self.masks == self.overlay:
            raise SpecError(
                f"masks, overlay: each needs a folder of its own. Received twice: {self.masks}"
            )
        can = {"masks": self.task.maps, "overlay": self.task.drawable}
        for name, allowed in can.items():
            folder = getattr(self, name)
            if folder is None:
                continue
            if not allowed:
                raise SpecError(
                    f"{name}: the answers of the task {self.task.name} cannot be written as "
                    f"images. Allowed: left out. Received: {folder}"
                )
            begin_folder(folder, f"--{name}", self.task.outputs if name == "masks" else None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys under which a prediction has its files."""
        files = {"mask": self.masks, "overlay": self.overlay}
        return tuple(key for key, folder in files.items() if folder)

    def write(
        self, name: str, content: bytes, row: np.ndarray, height: int, width: int
    ) -> dict[str, str]:
        """Write an answer; return the files by the key that a prediction has them under.

        Args:
            name: of the image; the files are called as it, with a number where that is taken.
            content: its encoded bytes.
            row: the model's output.
            height, width: of the upright image.
        """
        if not (self.masks or self.overlay):
            return {}
        stem, written = self._stems.free(name), {}
        try:
            if self.masks:
                numbers = np.asarray(self.task.label_map(row, height, width))
                image = Image.fromarray(numbers)
                image.putpalette(palette().ravel().tolist())
                written["mask"] = _save(image, self.masks / f"{stem}.png")
            if self.overlay:
                pixels = decode(content, self.rendering).numpy()
                image = Image.fromarray(self.task.overlay(pixels, row))
                written["overlay"] = _save(image, self.overlay / f"{stem}.png")
        except OSError as error:
            raise DataError(f"{stem}.png: cannot be written: {error.strerror or error}") from error
        return written


def _save(image: Image.Image, path: Path) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")
    write_file(path, content.getvalue())
    return str(path)
