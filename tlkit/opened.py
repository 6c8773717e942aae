"""A run folder, opened: model, labels, metrics; evaluate, predict, export.

It needs nothing but the folder, so it works on any past run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.data.decode import traced_decode_and_resize
from tlkit.data.facts import pixel_facts, say_facts
from tlkit.data.pipeline import batches
from tlkit.data.prepare import open_spec
from tlkit.data.rendering import Rendering, rendering_of
from tlkit.data.scan import scan
from tlkit.data.sources import Example, open_labelled
from tlkit.data.targets import targets_of
from tlkit.errors import DataError
from tlkit.evaluate.evaluator import outputs
from tlkit.evaluate.metrics import measure
from tlkit.evaluate.predictor import predict_items
from tlkit.evaluate.views import averaging
from tlkit.evaluate.written import check_targets, write_evaluation
from tlkit.heads.task import Task
from tlkit.heads.tasks import task_from_json
from tlkit.progress import Progress, as_progress
from tlkit.spec import ARRAYS, RunSpec
from tlkit.training.runfolder import RunFolder


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: it does not exist or is none.
    """
    files = RunFolder(folder)
    return Run(files, files.read_spec())


class Run:
    """A run folder, opened.

    Attributes:
        folder: its path.
        spec: the whole `RunSpec`.
        finished: whether training came to its end.
    """

    def __init__(self, files: RunFolder, spec: RunSpec):
        self.files, self.spec, self.folder = files, spec, files.path

    def __repr__(self) -> str:
        return f"tlkit.Run({str(self.folder)!r})"

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @functools.cached_property
    def model(self) -> keras.Model:
        """The delivered model: RGB 0-255 (n, size, size, 3) in, answers (n, outputs) out."""
        return self.files.load_model()

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the model's outputs, in order."""
        return tuple(self.files.read_json("labels.json"))

    @functools.cached_property
    def task(self) -> Task:
        """The task, with what it learnt of the data, such as thresholds."""
        return task_from_json(self.files.read_json("task.json"))

    @property
    def rendering(self) -> Rendering:
        """How pictures are decoded for this run's model, decided at its start."""
        return rendering_of(self.spec)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return self.files.read_json("metrics.json")

    @property
    def plan(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return self.files.read_json("plan.json")

    def answering(self, views: int = 1) -> keras.Model:
        """Return the delivered model, or one that averages over a picture's views.

        Args:
            views: 1: the picture as it is; 2: also its mirror image, in twice the time.

        Raises:
            SpecError: other numbers, or 2 for a run with `mirror=False`.
        """
        return averaging(self.model, views, self.spec.mirror)

    def evaluate(
        self,
        data: Any = None,
        *,
        views: int = 1,
        out: str | Path | None = None,
        csv: str | Path | None = None,
        progress: bool | Progress = True,
    ) -> dict[str, Any]:
        """Return the task's metrics, all of them, and the files that were left out.

        Args:
            data: anything that `train` takes; None: the run's own test part.
            views: see `answering`.
            out: a new or empty folder for `metrics.json`, `predictions.csv` and the drawing of
                the task, as in a run folder; None: nothing is written.
            csv: a file for the predictions alone; one that is there is replaced.

        Raises:
            DataError: nothing to evaluate on, classes that the run does not know, or files that
                cannot be written.
            RunFolderError, SpecError: see `check_targets` and `answering`.
        """
        check_targets(out, csv)
        shown, model = as_progress(progress), self.answering(views)
        examples, notes = (
            (self._own_test(), [])
            if data is None
            else open_labelled(data, self.labels, targets_of(self.spec))
        )
        for note in notes:
            shown.say("note", note)
        found = scan(examples, shown, rendering=self.rendering)
        say_facts(pixel_facts(found), len(found.digests), shown, options=False)
        usable = [e for e in examples if e.id in found.digests]
        if not usable:
            raise DataError(f"evaluation data: no usable pictures. Received: {len(examples)} files")
        targets = self.task.encode([e.label for e in usable])
        size, batch = self.spec.size, self.spec.batch_size
        with found.reading.told():
            how = {"rendering": self.rendering, "reading": found.reading}
            pictures = batches(usable, targets, size, batch, **how)
            answers = outputs(model, pictures, len(usable), shown, "evaluate")
        metrics = measure(self.task, targets, answers)
        left_out = [{"id": id_, "reason": why} for id_, why in sorted(found.left_out.items())]
        result = {**metrics, "left_out": left_out}
        write_evaluation(self.task, result, usable, targets, answers, out, csv, shown)
        return result

    def predict(
        self, items: Any, *, views: int = 1, progress: bool | Progress = False
    ) -> list[dict[str, Any]]:
        """Predict pictures, in the order given; a bad one never stops the others.

        Args:
            items: files and folders, or arrays (height, width, 3), 0-255, or one of these.
            views: see `answering`.

        Returns:
            For each picture a dict: for classification `{"path", "label", "score",
            "probabilities": {label: p}, "error"}`, for multi-label also `labels`, for regression
            `values: {name: x}` instead; `error` says why the others are None.
        """
        answer = self._answerer(self.answering(views))
        return predict_items(answer, self.task, items, as_progress(progress), self.rendering)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "savedmodel",
        *,
        views: int = 1,
        progress: bool | Progress = True,
    ) -> Path:
        """Export the model and check that it answers as the run does.

        Args:
            out: a new folder; None: `export/savedmodel` in the run folder.
            format: `savedmodel`.
            views: see `answering`; both are then in the exported graph.

        Raises:
            ExportError: `out` exists, or the format is unknown.
            SpecError: see `answering`.
            ParityError: the export answers otherwise; it has been removed.
        """
        from tlkit.export.exporter import check_target, export_checked

        out = Path(out) if out is not None else self.folder / "export" / format
        check_target(out, format)
        model, pictures = self.answering(views), self._parity_pictures()
        answer, shown = self._answerer(model), as_progress(progress)
        export_checked(model, self.task, self.rendering, out, pictures, answer, shown)
        return out

    def _answerer(self, model: keras.Model) -> Callable[[list[bytes]], np.ndarray]:
        """Return what answers encoded pictures by `model`, through the pipeline's own decoding."""
        decode = traced_decode_and_resize(self.spec.size, self.rendering)

        def answer(encoded: list[bytes]) -> np.ndarray:
            pictures = [decode(item).numpy() for item in encoded]
            return np.asarray(model.predict_on_batch(np.stack(pictures)), np.float32)

        return answer

    def _own_test(self) -> list[Example]:
        if ARRAYS in (self.spec.data, self.spec.test):
            raise DataError(f"run {self.folder}: was trained on arrays; say what to evaluate on")
        wanted = set(self.files.read_json("scan.json")["splits"]["test"])
        if not wanted:
            raise DataError(f"run {self.folder}: has no test part; say what to evaluate on")
        known = {"val": 0.0} if self.spec.val == ARRAYS else {}
        parts = open_spec(self.spec.model_copy(update=known), {}).parts
        found = [e for e in parts.get("test", parts["train"]) if e.id in wanted]
        if len(found) != len(wanted):
            raise DataError(
                f"run {self.folder}: {len(wanted) - len(found)} of its {len(wanted)} test pictures "
                f"are no longer in {self.spec.data}"
            )
        return found

    def _parity_pictures(self) -> list[bytes]:
        """Return the bytes of pictures that the run knows, spread over its classes."""
        from tlkit.export.parity import PICTURES, made_up_pictures

        if ARRAYS in (self.spec.data, self.spec.val, self.spec.test):
            return made_up_pictures()
        splits = self.files.read_json("scan.json")["splits"]
        ids = splits["test"] or splits["val"]
        wanted = set(ids[:: max(1, len(ids) // PICTURES)][:PICTURES])
        try:
            parts = open_spec(self.spec, {}).parts.values()
            found = [e.read() for part in parts for e in part if e.id in wanted]
        except (DataError, OSError):
            found = []
        return found or made_up_pictures()  # the pictures may have moved since
