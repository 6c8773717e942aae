"""An export of any format, opened: it predicts and is evaluated as its run would be."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones.sides import sides
from tlkit.data.pictures.decode import traced_decode_and_resize
from tlkit.data.pictures.files import check_regular
from tlkit.data.readers.labelled import open_labelled
from tlkit.errors import DataError, ExportError
from tlkit.evaluate.answer_files import AnswerFiles
from tlkit.evaluate.labelled import Answering, evaluate_on
from tlkit.evaluate.predictor import predict_items
from tlkit.evaluate.tiles import Tiling, check_tile
from tlkit.export.about import BESIDE, About, Answered, about_from_json, read_beside
from tlkit.export.formats import FORMATS, check_installed, find_export
from tlkit.progress import Progress, as_progress
from tlkit.reporting.written import check_targets
from tlkit.runfolder.record import is_one_of

BATCH = 32
"""Images answered at a time."""


def open_export(path: str | Path) -> Export:
    """Open what `tlkit export` wrote, a folder or the one file of a network.

    Raises:
        ExportError: it is none, is damaged, or its runtime is not installed.
    """
    found = find_export(Path(path))
    if found is None:
        files = ", ".join(dict.fromkeys(about.file for about in FORMATS.values()))
        raise ExportError(
            f"export {path}: is none. Allowed: a folder with one of {files}, or such a file"
        )
    kind, file = found
    check_installed(kind, writing=False)
    return Export(file.parent if kind == "savedmodel" else Path(path), open_file(kind, file))


def open_file(kind: str, file: Path) -> Any:
    """Return what answers through the file that an export of this format is known by."""
    if kind == "savedmodel":
        from tlkit.export.savedmodel import SavedModel

        return SavedModel(file.parent)
    return NetworkFile(kind, file)


class NetworkFile:
    """A network in a file, answering through its own runtime.

    Attributes:
        about: what it says of itself.
        task, rendering: as there.
        checked: whether its content is known to be what was written, by `export.json`.

    Raises:
        ExportError: tlkit did not write it, it is damaged, or is not what `export.json` says.
    """

    def __init__(self, kind: str, file: Path):
        try:
            check_regular(file)
            self.checked = _check_beside(file)
            inside, self.run = importlib.import_module(FORMATS[kind].module).open(file)
        except ExportError:
            raise
        except Exception as error:  # each runtime has errors of its own for what it cannot read
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"export {file}: cannot be opened: {reason}") from error
        if inside is None:
            raise ExportError(f"export {file}: was not written by tlkit export")
        try:
            described = json.loads(inside)
        except ValueError as error:
            raise ExportError(f"export {file}: what it says of itself is damaged") from error
        beside = read_beside(file.parent) if self.checked else None
        if beside is not None and any(beside.get(k) != value for k, value in described.items()):
            raise ExportError(
                f"export {file.parent}: {BESIDE} and {file.name} say different things, so one of "
                "them was changed. Export the run anew"
            )
        self.about = about_from_json(described, file)
        self.task, self.rendering = self.about.task, self.about.rendering
        self._decode = traced_decode_and_resize(self.about.size, self.about.rendering)

    def predict_resized(self, images: np.ndarray) -> np.ndarray:
        """Return the task's outputs (n, ...) for images float32 (n, size, size, 3), 0-255."""
        answers = self.run(np.ascontiguousarray(images, np.float32))
        return answers[self.about.task.answers].astype(np.float32)

    def predict_bytes(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Return the task's outputs (n, ...) for encoded images."""
        return self.predict_resized(self._resized(encoded))

    def answers(self, encoded: Sequence[bytes]) -> dict[str, Answered]:
        """Return all that is answered, by what it is asked through."""
        pieces = [
            self.run(self._resized(encoded[i : i + BATCH])) for i in range(0, len(encoded), BATCH)
        ]
        together = {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}
        return {self.about.kind: (np.tile(sides(self.about.size), (len(encoded), 1)), together)}

    def _resized(self, encoded: Sequence[bytes]) -> np.ndarray:
        return np.stack([self._decode(item).numpy() for item in encoded])


def _check_beside(file: Path) -> bool:
    """Check a file and its neighbours against `export.json`; return whether there is one."""
    beside = read_beside(file.parent)
    if beside is None or file.name not in beside.get("files", {}):
        return False
    written = {file.parent / name: str(digest) for name, digest in beside["files"].items()}
    wrong = [p.name for p, d in written.items() if not (p.is_file() and is_one_of(p, [d]))]
    if wrong:
        raise ExportError(
            f"export {file.parent}: {', '.join(wrong)}: damaged, missing, or of another export: "
            f"not what {BESIDE} says was written. Export the run anew"
        )
    return True


class Export:
    """An export, opened.

    Attributes:
        path: of the folder, or of the one file.
        opened: answers images.
    """

    def __init__(self, path: Path, opened: Any):
        self.path, self.opened = path, opened

    def __repr__(self) -> str:
        return f"tlkit.Export({str(self.path)!r})"

    @property
    def about(self) -> About:
        """What it says of itself."""
        if self.opened.about is None:
            raise ExportError(
                f"export {self.path}: was made by an earlier version and has no {BESIDE}, which "
                "this needs. Export the run anew"
            )
        return self.opened.about

    def bytes(self) -> int:
        """Return what its files take on disk, without card and script."""
        if not self.path.is_dir():
            files = [self.path, self.path.with_suffix(".bin")]
            return sum(file.stat().st_size for file in files if file.is_file())
        beside = read_beside(self.path) or {}
        return sum((self.path / name).stat().st_size for name in beside.get("files", {}))

    def predict(
        self,
        items: Any,
        *,
        tile: int | None = None,
        masks: str | Path | None = None,
        overlay: str | Path | None = None,
        coco: str | Path | None = None,
        yolo: str | Path | None = None,
        progress: bool | Progress = False,
    ) -> list[dict[str, Any]]:
        """Predict images, in the order given; see `Run.predict`."""
        shown, opened = as_progress(progress), self.opened
        self._say_state(shown)
        check_tile(opened.task, tile)
        answer, rendering = opened.predict_bytes, opened.rendering
        if tile is not None:
            size = self.about.size
            answer = Tiling(opened.predict_resized, opened.task, size, rendering, tile)
        files = AnswerFiles(masks, overlay, coco, yolo)
        return predict_items(answer, opened.task, items, shown, rendering, files)

    def evaluate(
        self,
        data: Any,
        *,
        tile: int | None = None,
        out: str | Path | None = None,
        csv: str | Path | None = None,
        progress: bool | Progress = True,
    ) -> dict[str, Any]:
        """Return the task's metrics on `data`, as `Run.evaluate`.

        What the run has seen is not known to its export: `seen_in_training` and
        `seen_in_validation` are None, and no image is left out for it.

        Raises:
            DataError: nothing to evaluate on, or classes that the network does not know.
            ExportError: it is of an earlier version, which did not say how data are read.
        """
        if data is None:
            raise DataError(
                f"export {self.path}: has no test part of its own, as a run has. Allowed: DATA to "
                "evaluate on"
            )
        about, shown = self.about, as_progress(progress)
        check_targets(out, csv, self.path, data)
        check_tile(about.task, tile)
        self._say_state(shown)
        shown.say("note", "whether the run has seen these images is not known to its export")
        answering = Answering(about.task, about.size, about.rendering, BATCH, self._function, tile)
        listed = open_labelled(data, about.task.outputs, about.targets)
        return evaluate_on(answering, listed, None, shown, out, csv)

    def _function(self, count: int) -> Callable[[np.ndarray], np.ndarray]:
        return self.opened.predict_resized

    def _say_state(self, progress: Progress) -> None:
        if not self.opened.checked:
            progress.say(
                "note",
                f"{self.path}: no {BESIDE} beside it, or of an earlier version: that its content "
                "is what was written cannot be checked",
            )
