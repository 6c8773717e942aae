"""Files that are written of answers, beside what is returned of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import SpecError
from tlkit.evaluate.detection_files import CocoResults, YoloText
from tlkit.evaluate.drawn_answers import DrawnAnswers
from tlkit.tasks.task import Task


@dataclass(frozen=True)
class AnswerFiles:
    """What is asked for; None: it is not.

    Attributes:
        masks, overlay: folders for answers as images, see `DrawnAnswers`.
        coco: a file for objects as COCO's results, see `CocoResults`.
        yolo: a folder for objects as YOLO's text, see `YoloText`.
    """

    masks: str | Path | None = None
    overlay: str | Path | None = None
    coco: str | Path | None = None
    yolo: str | Path | None = None


NO_FILES = AnswerFiles()


class WrittenAnswers:
    """Writes the files of answers.

    Raises:
        SpecError: the task does not answer with what a file is for, or two folders are one.
        DataError: nothing can be written to one of them.
    """

    def __init__(self, asked: AnswerFiles, task: Task, rendering: Rendering):
        given = {name: Path(path) for name, path in asdict(asked).items() if path is not None}
        for name in ("coco", "yolo"):
            if name in given and not task.finds:
                raise SpecError(
                    f"{name}: the task {task.name} finds no objects. Allowed for it: left out. "
                    f"Received: {given[name]}"
                )
        if "yolo" in given and given["yolo"] in (given.get("masks"), given.get("overlay")):
            raise SpecError(f"yolo: needs a folder of its own. Received twice: {given['yolo']}")
        self._task = task
        self._drawn = DrawnAnswers(task, rendering, given.get("masks"), given.get("overlay"))
        self._coco = CocoResults(given["coco"], task.outputs) if "coco" in given else None
        self._yolo = YoloText(given["yolo"], task.outputs) if "yolo" in given else None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys under which a prediction has the files that are its own."""
        return self._drawn.keys

    def write(
        self, name: str, content: bytes, row: np.ndarray, height: int, width: int
    ) -> dict[str, str]:
        """Write an answer, see `DrawnAnswers.write`."""
        files = [x for x in (self._coco, self._yolo) if x is not None]
        found = self._task.accepted(row, height, width) if files else None
        for file in files:
            file.add(name, found, height, width)
        return self._drawn.write(name, content, row, height, width)

    def close(self) -> None:
        """Write what is of all images together."""
        if self._coco is not None:
            self._coco.write()
