"""A run folder, opened: what its files say, each checked to be the run's own."""

from __future__ import annotations

import functools
from typing import Any

import keras

from tlkit.data.membership import Members
from tlkit.data.pictures.rendering import Rendering, rendering_of
from tlkit.progress import Progress
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.pack import columns
from tlkit.spec.run import RunSpec
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.registry import task_from_json
from tlkit.tasks.task import Task

CALIBRATION = "calibration.json"


class OpenedFolder:
    """A run folder, opened: what is in it.

    Attributes:
        folder: its path.
        spec: the whole `RunSpec`.
        finished: whether training came to its end.
        edited: fields of spec.yaml that are not as an unfinished run was started.
    """

    def __init__(self, files: RunFolder, spec: RunSpec):
        self.files, self.spec, self.folder = files, spec, files.path
        self.edited: list[str] = []

    @property
    def finished(self) -> bool:
        return self.files.finished

    @functools.cached_property
    def model(self) -> keras.Model:
        """The delivered model: RGB 0-255 (n, size, size, 3) in, answers (n, outputs) out.

        Of an unfinished run it is the best so far by validation, if there is one.
        """
        record.check_model(self.files)
        return self.files.load_model()

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        return tuple(self._read("labels.json"))

    @functools.cached_property
    def task(self) -> Task:
        """The task, with what it learnt of the data, such as thresholds."""
        about = self._read("task.json")
        try:
            return task_from_json(about)
        except (KeyError, TypeError, ValueError) as error:
            raise self.files.damaged("task.json", error) from error

    @property
    def rendering(self) -> Rendering:
        """How images are decoded for this run's model, decided at its start."""
        return rendering_of(self.spec)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return self._read("metrics.json")

    @property
    def history(self) -> dict[str, list[Any]]:
        """The columns of `log.csv`: a value for each epoch, or each strength of a solved head; None
        where a phase has none (the rate of a solved head, the L2 strength of a fitted one)."""
        return columns(self.files.read_log())

    @property
    def plan(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return self._read("plan.json")

    @functools.cached_property
    def members(self) -> Members | None:
        """The content of `data.json`: id, content hash and label of each image of each part.

        None for a run of an earlier version, which kept the ids alone.
        """
        written = record.read_record(self.files)
        kept = written and "data.json" in written.start
        return self._read("data.json") if kept else None

    def _read(self, name: str) -> Any:
        record.check_files(self.files, name)
        return self.files.read_json(name)

    def say_state(self, progress: Progress) -> None:
        """Say what a person must know of this run before an answer of it is believed."""
        if self.edited:
            fields = ", ".join(self.edited)
            progress.say("note", f"spec.yaml was edited since the run was started: {fields}")
        if record.read_record(self.files) is None and (self.folder / "scan.json").exists():
            progress.say(
                "note", f"{self.folder} was made by an earlier version: its files cannot be checked"
            )

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """The temperature of the answers, and what it came from; None: the task has none, or the
        run is unfinished or of an earlier version."""
        written = record.read_record(self.files) if self.finished else None
        if written is None or CALIBRATION not in written.files:
            return None
        return Calibration(**self._read(CALIBRATION))
