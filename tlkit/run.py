"""A run folder, opened: model, labels, metrics; evaluate, predict, export.

It needs nothing but the folder, so it works on any past run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras

from tlkit.compute.engines import inference
from tlkit.data.example import Example
from tlkit.data.membership import Known, Members, recognise
from tlkit.data.pictures.rendering import Rendering, rendering_of
from tlkit.data.readers.labelled import open_labelled
from tlkit.errors import RunFolderError
from tlkit.evaluate.labelled import Answering, evaluate_on
from tlkit.evaluate.own_test import check_test, own_test
from tlkit.evaluate.predictor import answers_of, predict_items
from tlkit.evaluate.tiles import Tiling, check_tile
from tlkit.evaluate.tta import asked_tta, averaging
from tlkit.places import run_of
from tlkit.progress import Progress, as_progress
from tlkit.reporting.summary import so_far, summary
from tlkit.reporting.written import check_targets
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.pack import columns, pack
from tlkit.spec.run import RunSpec
from tlkit.tasks.registry import targets_of, task_from_json
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


class Run:
    """A run folder, opened.

    Attributes:
        folder: its path.
        spec: the whole `RunSpec`.
        finished: whether training came to its end.
        edited: fields of spec.yaml that are not as an unfinished run was started.
    """

    def __init__(self, files: RunFolder, spec: RunSpec):
        self.files, self.spec, self.folder = files, spec, files.path
        self.edited: list[str] = []

    def __repr__(self) -> str:
        return f"tlkit.Run({str(self.folder)!r})"

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
        """The columns of `log.csv`: a value, or None, for each epoch or strength of a head."""
        return columns(self.files.read_log())

    def summary(self) -> str:
        """Return what the run was and what came out of it, in lines; `print` shows it."""
        metrics = self.metrics if self.finished else None
        head = self.task.headline(metrics["test"]) if metrics and metrics["test"] else ""
        return summary(self.folder, self.spec, self.plan, len(self.labels), metrics, head)

    def pack(self, out: str | Path | None = None) -> Path:
        """Write a zip file of the run for somebody else, see `runfolder.pack.pack`."""
        return pack(self.files, out)

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

    def answering(self, tta: bool = False) -> keras.Model:
        """Return the delivered model, or one that answers for a mirrored image as well.

        Args:
            tta: test-time augmentation: the mean over an image and its mirror image.

        Raises:
            SpecError: `tta` for a run with `mirror=False`.
        """
        task, given = self.task, self.model.output_shape[-1]
        if len(task.outputs) != len(self.labels) or task.numbers != given:
            raise RunFolderError(
                f"run {self.folder}: its model, labels.json and task.json do not belong together: "
                f"{given}, {len(self.labels)} and {len(task.outputs)} outputs"
            )
        return averaging(self.model, tta, self.spec.mirror, self.task.flip)

    def evaluate(
        self,
        data: Any = None,
        *,
        tta: str | None = None,
        views: int | None = None,
        tile: int | None = None,
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
            out: a new or empty folder for `metrics.json`, `predictions.csv` and the drawing of
                the task, as in a run folder; None: nothing is written.
            csv: a file for the predictions alone; one that is there is replaced.

        Returns:
            Besides the metrics `part`, "test", or None of `data` without parts; `left_out`, a list
            of `{"id", "reason"}`; `seen_in_training`, `seen_in_validation`: how many it knew.

        Raises:
            DataError: nothing to evaluate on, unknown classes, a changed test part, or files that
                cannot be written.
            RunFolderError, SpecError: files of the run are not its own; see `check_targets`,
                `tta.asked_tta` and `tiles.check_tile`.
        """
        check_targets(out, csv, self.folder, data)
        check_tile(self.task, tile)
        shown = as_progress(progress)
        model = self._told(shown, asked_tta(tta, views, shown))
        if data is None:
            listed = own_test(self.files, self.spec, self.members), [], "test"
        else:
            listed = open_labelled(data, self.labels, targets_of(self.spec))
        spec, function = self.spec, functools.partial(inference, model)
        answering = Answering(self.task, spec.size, self.rendering, spec.batch_size, function, tile)
        recognised = functools.partial(self._recognised, shown, data is None)
        return evaluate_on(answering, listed, recognised, shown, out, csv)

    def _recognised(
        self,
        progress: Progress,
        own: bool,
        examples: list[Example],
        usable: list[Example],
        digests: dict[str, str],
    ) -> Known:
        """Return which images the run knows; of its `own` test part none, which is checked."""
        if self.members is None:
            if not own:
                progress.say(
                    "note", "what the run has seen is unknown: an earlier version kept no hashes"
                )
        elif own:
            check_test(self.files, self.members, examples, digests)
        else:
            return recognise(usable, digests, self.members, progress)
        return {}

    def predict(
        self,
        items: Any,
        *,
        tta: str | None = None,
        views: int | None = None,
        tile: int | None = None,
        masks: str | Path | None = None,
        overlay: str | Path | None = None,
        progress: bool | Progress = False,
    ) -> list[dict[str, Any]]:
        """Predict images, in the order given; a bad one never stops the others.

        Args:
            items: files, folders, patterns, bytes, images of Pillow, or arrays (height, width, 3),
                0-255; or one of these. See `predict_items`.
            tta, views, tile: as for `evaluate`.
            masks, overlay: new or empty folders for PNG files of the originals' size: maps of
                classes, and images with their answers drawn over them.

        Returns:
            For each image a dict: for classification `{"path", "label", "score", "probabilities":
            {label: p}, "error"}`, for multi-label also `labels`, for regression `values: {name: x}`
            instead, for localisation also `box: [x1, y1, x2, y2]` in pixels of the original,
            upright; `error` says why the others are None.

        Raises:
            SpecError: `overlay`, and the answers have no place in an image; see `check_tile`.
        """
        check_tile(self.task, tile)
        shown, how = as_progress(progress), self.rendering
        model = self._told(shown, asked_tta(tta, views, shown))
        answer = answers_of(model, how, shown)
        if tile is not None:
            answer = Tiling(model.predict_on_batch, self.task, self.spec.size, how, tile)
        return predict_items(answer, self.task, items, shown, how, masks, overlay)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "savedmodel",
        *,
        tta: str | None = None,
        views: int | None = None,
        serving_version: int | None = None,
        agreement: float | None = None,
        progress: bool | Progress = True,
    ) -> Path:
        """Export the model and check that it answers as the run does.

        Args:
            out: a new folder; None: `export/FORMAT` in the run folder.
            format: one of `tlkit.export.formats.FORMATS`.
            tta, views: as for `evaluate`; both images are then in the exported graph.
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
        model = self._told(shown, flipped)
        about = about_of(format, self.task, spec, self.rendering, 1 + flipped)
        metrics = self.metrics if self.finished else None
        answerer = functools.partial(answers_of, rendering=self.rendering, progress=shown)
        run = Exported(model, about, self.files, spec, answerer, metrics)
        export_checked(run, out, agreement, shown)
        return out

    def _told(self, progress: Progress, tta: bool) -> keras.Model:
        """Return `answering(tta)`, and say what is special about the run."""
        self.say_state(progress)
        model = self.answering(tta)
        if not self.finished and (state := record.check_model(self.files)):
            progress.say("note", so_far(self.folder, state))
        return model
