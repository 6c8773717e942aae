"""A run folder, opened: model, labels, metrics; evaluate, predict, export.

It needs nothing but the folder, so it works on any past run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras

from tlkit.compute.engines import inference
from tlkit.data.readers.labelled import open_labelled
from tlkit.errors import RunFolderError
from tlkit.evaluate.answer_files import AnswerFiles
from tlkit.evaluate.calibrated import calibrated, decided
from tlkit.evaluate.labelled import Answering, evaluate_on
from tlkit.evaluate.own_test import own_test, recognised_by
from tlkit.evaluate.predictor import answers_of, predict_items
from tlkit.evaluate.tiles import Tiling, check_tile
from tlkit.evaluate.tta import asked_tta
from tlkit.places import run_of
from tlkit.progress import Progress, as_progress
from tlkit.reporting.summary import so_far, summary
from tlkit.reporting.written import check_targets
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.opened import OpenedFolder
from tlkit.runfolder.pack import pack
from tlkit.tasks.decisions import AS_EVER, Decision
from tlkit.tasks.registry import targets_of
from tlkit.tasks.task import Task


def open_run(folder: str | Path) -> Run:
    """Open a run folder, or that of a `model.keras` in one.

    Raises:
        RunFolderError: it does not exist or is none.
    """
    files = RunFolder(run_of(Path(folder)))
    run = Run(files, files.read_spec())
    run.edited = record.check_spec(files, run.spec)
    return run


class Run(OpenedFolder):
    """A run folder, opened: what is in it, and what can be done with it."""

    def __repr__(self) -> str:
        return f"tlkit.Run({str(self.folder)!r})"

    def summary(self) -> str:
        """Return what the run was and what came out of it, in lines; `print` shows it."""
        metrics = self.metrics if self.finished else None
        head = self.task.headline(metrics["test"]) if metrics and metrics["test"] else ""
        return summary(self.folder, self.spec, self.plan, len(self.labels), metrics, head)

    def pack(self, out: str | Path | None = None) -> Path:
        """Write a zip file of the run for somebody else, see `runfolder.pack.pack`."""
        return pack(self.files, out)

    def answering(self, tta: bool = False, raw: bool = False) -> keras.Model:
        """Return the delivered model with calibrated answers, or one that answers for a mirrored
        image as well.

        Args:
            tta: test-time augmentation: the mean over an image and its mirror image.
            raw: answers are as the network was trained, without a temperature.

        Raises:
            SpecError: `tta` for a run with `mirror=False`.
        """
        task, given = self.task, self.model.output_shape[-1]
        if len(task.outputs) != len(self.labels) or task.numbers != given:
            raise RunFolderError(
                f"run {self.folder}: its model, labels.json and task.json do not belong together: "
                f"{given}, {len(self.labels)} and {len(task.outputs)} outputs"
            )
        found = None if raw else self.calibration
        return calibrated(self.model, task, found, tta, self.spec.mirror)

    def answered(self, tta: bool = False, raw: bool = False, asked: Decision = AS_EVER) -> Task:
        """Return the task as the answers of `answering` are read, and decided as asked.

        Raises:
            SpecError: see `evaluate.calibrated.decided`.
        """
        found = None if raw and not asked.validated else self.calibration
        return decided(self.task, found, asked, raw, tta)

    def evaluate(
        self,
        data: Any = None,
        *,
        tta: str | None = None,
        views: int | None = None,
        tile: int | None = None,
        raw: bool = False,
        threshold: float | str | None = None,
        positive: str | None = None,
        coverage: float | None = None,
        out: str | Path | None = None,
        csv: str | Path | None = None,
        progress: bool | Progress = True,
    ) -> dict[str, Any]:
        """Return the task's metrics, all of them, and what was left out.

        Images that the run trained on, or chose its best model by, are left out, by their content.

        Args:
            data: anything that `train` takes, without parts or with a test part; None: the run's
                own test part, which must be what it was.
            tta: `flip`: answers are the mean over an image and its mirror image, in twice the time.
            views: what an earlier version called `tta`: 2 is `flip`.
            tile: side of tiles in pixels (segmentation): larger images are answered in overlapping
                tiles, blended; all are measured on their own pixels, not on the model's input.
            raw: answers are as the network was trained, without the run's temperature.
            threshold: the probability from which on the one of two classes is given, or a label of
                several; or how it is chosen on the validation part: `f1`, `recall=0.95`,
                `precision=0.9`. None: the most probable class.
            positive: that class; None: the second.
            coverage: also measure sets of labels that shall hold the true one this often.
            out: a new or empty folder for `metrics.json`, `predictions.csv` and the drawing of
                the task, as in a run folder; None: nothing is written.
            csv: a file for the predictions alone; one that is there is replaced.

        Returns:
            Besides the metrics `part`, "test", or None of `data` without parts; `left_out`, a list
            of `{"id", "reason"}`; `seen_in_training`, `seen_in_validation`: how many it knew;
            `calibration`, what the temperature changed; with `coverage` `sets`.

        Raises:
            DataError: nothing to evaluate on, unknown classes, a changed test part, or files that
                cannot be written.
            RunFolderError, SpecError: files of the run are not its own; see `check_targets`,
                `tta.asked_tta`, `answered` and `tiles.check_tile`.
        """
        check_targets(out, csv, self.folder, data)
        check_tile(self.task, tile)
        shown = as_progress(progress)
        asked = Decision(threshold, positive, coverage)
        model, task = self._told(shown, asked_tta(tta, views, shown), raw, asked)
        listed = (
            (own_test(self.files, self.spec, self.members), [], "test")
            if data is None
            else open_labelled(data, self.labels, targets_of(self.spec))
        )
        spec, function = self.spec, functools.partial(inference, model)
        answering = Answering(task, spec.size, self.rendering, spec.batch_size, function, tile)
        known = functools.partial(recognised_by, self.files, self.members, shown, data is None)
        return evaluate_on(answering, listed, known, shown, out, csv)

    def predict(
        self,
        items: Any,
        *,
        tta: str | None = None,
        views: int | None = None,
        tile: int | None = None,
        raw: bool = False,
        threshold: float | str | None = None,
        positive: str | None = None,
        coverage: float | None = None,
        masks: str | Path | None = None,
        overlay: str | Path | None = None,
        coco: str | Path | None = None,
        yolo: str | Path | None = None,
        progress: bool | Progress = False,
    ) -> list[dict[str, Any]]:
        """Predict images, in the order given; a bad one never stops the others.

        Args:
            items: files, folders, patterns, bytes, images of Pillow, or arrays (height, width, 3),
                0-255; or one of these. See `predict_items`.
            tta, views, tile, raw, threshold, positive: as for `evaluate`.
            coverage: each image gets a `set` of labels too, the most probable first, that holds the
                true one this often, over images like those of the validation part.
            masks, overlay: new or empty folders for PNG files of the originals' size: maps of
                classes, and images with their answers drawn over them.
            coco, yolo: objects found as COCO's results in a file, with a second that says what the
                numbers in it mean, and as YOLO's text in a new or empty folder: see
                `tlkit.evaluate.detection_files`.

        Returns:
            For each image a dict: for classification `{"path", "label", "score", "probabilities":
            {label: p}, "error"}`, for multi-label also `labels`, for regression `values: {name: x}`
            instead, for localisation also `box: [x1, y1, x2, y2]` in pixels of the original,
            upright, for detection `detections`, each with `label`, `score` and `box`; `error` says
            why the others are None.

        Raises:
            SpecError: see `evaluate`; `overlay`, and the answers have no place in an image.
        """
        check_tile(self.task, tile)
        shown, how = as_progress(progress), self.rendering
        asked = Decision(threshold, positive, coverage)
        model, task = self._told(shown, asked_tta(tta, views, shown), raw, asked)
        answer = answers_of(model, how, shown)
        if tile is not None:
            answer = Tiling(model.predict_on_batch, task, self.spec.size, how, tile)
        files = AnswerFiles(masks, overlay, coco, yolo)
        return predict_items(answer, task, items, shown, how, files)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "savedmodel",
        *,
        tta: str | None = None,
        views: int | None = None,
        raw: bool = False,
        serving_version: int | None = None,
        agreement: float | None = None,
        progress: bool | Progress = True,
    ) -> Path:
        """Export the model and check that it answers as the run does.

        Args:
            out: a new folder; None: `export/FORMAT` in the run folder.
            format: one of `tlkit.export.formats.FORMATS`.
            tta, views, raw: as for `evaluate`; both images, and the temperature, are then in the
                exported graph or not.
            serving_version: of a folder in `out`, for TensorFlow Serving; `savedmodel` alone.
            agreement: least `Task.agreement` with the run, above 0 to 1; `litert-int8` alone; None:
                0.99.

        Returns:
            Where it was written.

        Raises:
            ExportError: `out` exists, the format is unknown or not installed, or cannot be made.
            SpecError: see `tta.asked_tta`; or an option has no effect on the format.
            ParityError: the export answers otherwise; it has been removed.
        """
        from tlkit.export.about import about_of
        from tlkit.export.exporter import Exported, export_checked, target_of

        out = Path(out) if out is not None else self.folder / "export" / format
        out, spec = target_of(out, format, serving_version, agreement), self.spec
        shown = as_progress(progress)
        flipped = asked_tta(tta, views, shown)
        model, task = self._told(shown, flipped, raw)
        about = about_of(format, task, spec, self.rendering, 1 + flipped)
        metrics = self.metrics if self.finished else None
        answerer = functools.partial(answers_of, rendering=self.rendering, progress=shown)
        run = Exported(model, about, self.files, spec, answerer, metrics)
        export_checked(run, out, agreement, shown)
        return out

    def _told(
        self, progress: Progress, tta: bool, raw: bool, asked: Decision = AS_EVER
    ) -> tuple[keras.Model, Task]:
        """Return `answering` and `answered`, and say what is special about the run and answers."""
        self.say_state(progress)
        task = self.answered(tta, raw, asked)
        model = self.answering(tta, raw)
        if not self.finished and (state := record.check_model(self.files)):
            progress.say("note", so_far(self.folder, state))
        for what, text in task.said():
            progress.say(what, text)
        return model, task
