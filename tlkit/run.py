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
from tlkit.data.wording import number
from tlkit.errors import RunFolderError
from tlkit.evaluate.labelled import Answering, evaluate_on
from tlkit.evaluate.own_test import check_test, own_test
from tlkit.evaluate.predictor import answers_of, predict_items
from tlkit.evaluate.tta import averaging
from tlkit.progress import Progress, as_progress
from tlkit.reporting.written import check_targets
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.spec.run import RunSpec
from tlkit.tasks.registry import targets_of, task_from_json
from tlkit.tasks.task import Task


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: it does not exist or is none.
    """
    files = RunFolder(folder)
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

    def answering(self, views: int = 1) -> keras.Model:
        """Return the delivered model, or one that averages over an image's views.

        Args:
            views: 1: the image as it is; 2: also its mirror image, in twice the time.

        Raises:
            SpecError: other numbers, or 2 for a run with `mirror=False`.
        """
        task, given = self.task, self.model.output_shape[-1]
        if len(task.outputs) != len(self.labels) or task.numbers != given:
            raise RunFolderError(
                f"run {self.folder}: its model, labels.json and task.json do not belong together: "
                f"{given}, {len(self.labels)} and {len(task.outputs)} outputs"
            )
        return averaging(self.model, views, self.spec.mirror, self.task.flip)

    def evaluate(
        self, data: Any = None, *, views: int = 1, out: str | Path | None = None,
        csv: str | Path | None = None, progress: bool | Progress = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the task's metrics, all of them, and what was left out.

        Images that the run trained on, or chose its best model by, are left out: by their content,
        so that another name or folder hides none (a copy that was saved anew has other content).

        Args:
            data: anything that `train` takes, without parts or with a test part; None: the run's
                own test part, which must be what it was.
            views: see `answering`.
            out: a new or empty folder for `metrics.json`, `predictions.csv` and the drawing of
                the task, as in a run folder; None: nothing is written.
            csv: a file for the predictions alone; one that is there is replaced.

        Returns:
            Besides the metrics `part`, "test" or, where `data` has no parts, None; `left_out`, a
            list of `{"id", "reason"}`; and `seen_in_training` and `seen_in_validation`, how many
            of them the run knew.

        Raises:
            DataError: nothing to evaluate on, classes that the run does not know, a test part that
                has changed, or files that cannot be written.
            RunFolderError: files of the run are not its own, or see `check_targets`.
            SpecError: see `check_targets` and `answering`.
        """
        check_targets(out, csv, self.folder, data)
        shown = as_progress(progress)
        model = self._told(shown, views)
        listed = (
            (own_test(self.files, self.spec, self.members), [], "test")
            if data is None
            else open_labelled(data, self.labels, targets_of(self.spec))
        )
        spec, function = self.spec, functools.partial(inference, model)
        answering = Answering(self.task, spec.size, self.rendering, spec.batch_size, function)
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
        views: int = 1,
        masks: str | Path | None = None,
        overlay: str | Path | None = None,
        progress: bool | Progress = False,
    ) -> list[dict[str, Any]]:
        """Predict images, in the order given; a bad one never stops the others.

        Args:
            items: files and folders, or arrays (height, width, 3), 0-255, or one of these.
            views: see `answering`.
            masks, overlay: new or empty folders for answers as PNG files, of the originals' size:
                maps of classes, and images with their answers drawn over them.

        Returns:
            For each image a dict: for classification `{"path", "label", "score",
            "probabilities": {label: p}, "error"}`, for multi-label also `labels`, for regression
            `values: {name: x}` instead, for localisation also `box: [x1, y1, x2, y2]` in pixels of
            the original image, upright; `error` says why the others are None.

        Raises:
            SpecError: `overlay`, and the answers have no place in an image.
        """
        shown = as_progress(progress)
        answer = answers_of(self._told(shown, views), self.rendering, shown)
        folders = (None if folder is None else Path(folder) for folder in (masks, overlay))
        return predict_items(answer, self.task, items, shown, self.rendering, *folders)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "savedmodel",
        *,
        views: int = 1,
        serving_version: int | None = None,
        agreement: float | None = None,
        progress: bool | Progress = True,
    ) -> Path:
        """Export the model and check that it answers as the run does.

        Args:
            out: a new folder; None: `export/FORMAT` in the run folder.
            format: one of `tlkit.export.formats.FORMATS`.
            views: see `answering`; both are then in the exported graph.
            serving_version: write to a folder of this name in `out`, as TensorFlow Serving has it;
                `savedmodel` alone.
            agreement: smallest agreement with the run, above 0 to 1, see `Task.agreement`;
                `litert-int8` alone; None: 0.99.

        Returns:
            Where it was written.

        Raises:
            ExportError: `out` exists, the format is unknown or not installed, or the network
                cannot be converted.
            SpecError: see `answering`; or an option has no effect on the format.
            ParityError: the export answers otherwise; it has been removed.
        """
        from tlkit.export.about import About
        from tlkit.export.exporter import Exported, export_checked, target_of

        out = Path(out) if out is not None else self.folder / "export" / format
        out, spec = target_of(out, format, serving_version, agreement), self.spec
        shown = as_progress(progress)
        model = self._told(shown, views)
        labelled = {
            "table": spec.table,
            "class_names": tuple(spec.class_names),
            "mask_values": tuple(spec.mask_values),
        }
        about = About(
            format, self.task, spec.size, self.rendering, spec.backbone.name, views, **labelled
        )
        metrics = self.metrics if self.finished else None
        answerer = functools.partial(answers_of, rendering=self.rendering, progress=shown)
        run = Exported(model, about, self.files, spec, answerer, metrics)
        export_checked(run, out, agreement, shown)
        return out

    def _told(self, progress: Progress, views: int) -> keras.Model:
        """Return `answering(views)`, and say what is special about the run."""
        self.say_state(progress)
        model = self.answering(views)
        if not self.finished and (state := record.check_model(self.files)):
            metric, value = list(state.best.items())[-1]
            done = [result["name"] for result in state.finished]
            done += [f"{number(state.epoch, 'epoch')} of the next phase"] if state.epoch else []
            progress.say(
                "note",
                f"{self.folder} is unfinished: its best model so far, validation {metric} "
                f"{value:.3f}, after {' and '.join(done)}; go on with: tlkit train --resume "
                f"{self.folder}",
            )
        return model
