"""The conductor: data, plan, training, evaluation, run folder; the Python twin of the commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tlkit.assembly import assemble, open_backbone, unweighted
from tlkit.backbones.build import Built
from tlkit.backbones.catalog import MODEL
from tlkit.data.prepare import Prepared, prepare
from tlkit.environment import describe_environment, set_environment
from tlkit.errors import RunFolderError
from tlkit.heads.task import Task
from tlkit.interruption import disk_full_told, interrupted, starting
from tlkit.opened import Run, open_run
from tlkit.outcome import measure_run, say_result
from tlkit.progress import Progress, as_progress
from tlkit.recipe import make_spec
from tlkit.spec import ARRAYS, RunSpec
from tlkit.training.cache import features_folder
from tlkit.training.phases import TrainPlan, make_plan
from tlkit.training.runfolder import RunFolder, check_free
from tlkit.training.state import read_state
from tlkit.training.trainer import Trainer


def train(
    data: Any = None,
    *,
    val: Any = None,
    test: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool | Progress = True,
    **fields: Any,
) -> Run:
    """Train on `data` and return the run.

    Args:
        data: a folder of class folders, one with train / validation / test folders, a CSV file,
            `tfds:NAME[/config][:split]`, `example:elpv`, an `(images, labels)` pair (RGB or grey,
            0-255, any size) or a `tf.data.Dataset` of such pairs.
        val, test: a share to split off (default 0.15 each), or data of their own.
        callbacks: Keras callbacks, passed to each fitted phase.
        progress: False for silence.
        **fields: any field of `RunSpec`, such as `backbone="ResNet50"`, `regime="medium"`;
            `backbone`, or the `name` in it, may be a `keras.Model` too: its layers up to a cut
            are copied, and the model stays as it is.

    Raises:
        TlkitError: bad input; one of its children, with one clear message.

    Example:
        run = tlkit.train("flowers/", backbone="MobileNetV2")
        run.metrics["test"]["accuracy"]
    """
    spec, arrays = _spec_of(data, val, test, fields)
    shown = as_progress(progress)
    set_environment(spec)
    if spec.out:
        check_free(Path(spec.out))
    spec, given = open_backbone(spec, arrays.get("backbone"))
    with starting(arrays) as folder:
        prepared = prepare(spec, arrays, shown, folder.create)
        if spec.freeze != "auto":
            # A wrong rule, before weights are fetched.
            _make_plan(prepared, unweighted(spec, given), False)
        task, built, model = assemble(prepared, given)
        plan = _make_plan(prepared, built, bool(callbacks))
        _say_plan(plan, shown)
        _start(prepared, task, plan, model, folder.files)
    return _execute(prepared, task, plan, model, folder.files, callbacks, shown)


def plan(
    data: Any, *, val: Any = None, test: Any = None, progress: bool | Progress = True, **fields: Any
) -> TrainPlan:
    """Return what `train` with the same arguments would do; nothing is trained or written."""
    spec, arrays = _spec_of(data, val, test, fields)
    spec, given = open_backbone(spec, arrays.get("backbone"))
    prepared = prepare(spec, arrays, as_progress(progress))
    return _make_plan(prepared, unweighted(spec, given), False)


def resume(folder: str | Path, progress: bool | Progress = True) -> Run:
    """Go on with a run that was stopped, at any moment; a finished one is returned.

    It ends with the numbers of a run that was never stopped: what was lost since the last write
    of its state is computed again, in the same order and with the same draws.

    Raises:
        RunFolderError: there is no run, or it was trained on arrays or on a model object, which
            are gone.
    """
    run, shown = open_run(folder), as_progress(progress)
    if run.finished:
        shown.say("run", f"{run.folder} is finished; nothing to do")
        return run
    if ARRAYS in (run.spec.data, run.spec.val, run.spec.test):
        raise RunFolderError(f"run {folder}: was trained on arrays, which are gone; train anew")
    if run.spec.backbone.name == MODEL:
        raise RunFolderError(
            f"run {folder}: was trained on a model object, which is gone; train anew, or save the "
            "model and name its file: --backbone path/to/model.keras"
        )
    set_environment(run.spec)
    run.files.remove_drafts()
    # The last file of a start: without it nothing has been trained.
    started = (run.folder / "scan.json").is_file()
    try:
        with disk_full_told(run.files):
            spec, given = open_backbone(run.spec)
            prepared = prepare(spec, {}, shown)
            if started:
                _check_unchanged(prepared, run)
            task, built, model = assemble(prepared, given)
            # Callbacks are gone; a last phase that was fitted for their sake is still fitted.
            fitted = started and run.plan["phases"][-1]["method"] == "fit"
            plan = _make_plan(prepared, built, fitted)
            if not started:
                _start(prepared, task, plan, model, run.files)
    except KeyboardInterrupt as error:
        raise interrupted(run.files) from error
    return _execute(prepared, task, plan, model, run.files, (), shown)


def _spec_of(
    data: Any, val: Any, test: Any, fields: dict[str, Any]
) -> tuple[RunSpec, dict[str, Any]]:
    """Return the spec, and apart from it what is no text.

    That is arrays among `data`, `val` and `test`, and a model as `backbone`.
    """
    fields, arrays = dict(fields), {}
    for name, value in (("data", data), ("val", val), ("test", test)):
        if value is None:
            continue
        if isinstance(value, str | Path | int | float):
            fields[name] = str(value) if isinstance(value, Path) else value
        else:
            arrays[name] = value
            fields[name] = ARRAYS
    backbone = fields.get("backbone")
    asked = dict(backbone) if isinstance(backbone, dict) else {"name": backbone}
    if isinstance(asked.get("name"), keras.Model):
        arrays["backbone"] = asked["name"]
        fields["backbone"] = {**asked, "name": MODEL}
    elif isinstance(asked.get("name"), Path):
        fields["backbone"] = {**asked, "name": str(asked["name"])}
    if fields.get("out") is not None:
        fields["out"] = str(fields["out"])
    return make_spec(fields), arrays


def _check_unchanged(prepared: Prepared, run: Run) -> None:
    """Refuse to go on with other pictures: some trained on already could come into the test."""
    before = run.files.read_json("scan.json")["splits"]
    if prepared.split.ids() != before or prepared.source.outputs != run.labels:
        raise RunFolderError(
            f"run {run.folder}: the pictures in {run.spec.data} have changed since it was stopped; "
            "train anew"
        )


def _make_plan(prepared: Prepared, built: Built, callbacks: bool) -> TrainPlan:
    spec = prepared.spec
    classes = len(prepared.source.outputs) if spec.task == "classification" else 0
    return make_plan(spec, built.layers, len(prepared.split.train), classes, callbacks)


def _execute(
    prepared: Prepared,
    task: Task,
    plan: TrainPlan,
    model: keras.Model,
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
) -> Run:
    state = read_state(folder)
    state.seconds += prepared.seconds
    trainer = Trainer(
        model,
        task,
        prepared.spec,
        prepared.examples("train", task.encode),
        prepared.examples("val", task.encode),
        folder,
        features_folder(),
        progress,
        callbacks,
        state,
    )
    checkpoints = trainer.checkpoints
    try:
        with disk_full_told(folder):
            results = trainer.run(plan)
            metrics = measure_run(
                prepared, task, plan, model, results, folder, progress, checkpoints.best
            )
            metrics["seconds"]["total"] = round(checkpoints.seconds, 3)
            folder.write_json("metrics.json", metrics)
    except KeyboardInterrupt as error:
        raise interrupted(folder) from error
    run = Run(folder, prepared.spec)
    run.model = model
    say_result(metrics, folder, progress)
    return run


def _start(
    prepared: Prepared, task: Task, plan: TrainPlan, model: keras.Model, folder: RunFolder
) -> None:
    digests = prepared.scan.digests.items()
    folder.write_text("spec.yaml", prepared.spec.to_yaml())
    folder.write_json("plan.json", plan.to_json())
    folder.write_json("env.json", describe_environment(prepared.spec, digests, model))
    folder.write_json("labels.json", list(task.outputs))
    folder.write_json("task.json", task.to_json())
    folder.write_json("scan.json", prepared.scan_json())


def _say_plan(plan: TrainPlan, progress: Progress) -> None:
    progress.say("plan", f"{plan.regime.value} ({plan.regime.reason})")
    for phase in plan.phases:
        progress.say("", f"{phase.name}: {phase.describe()}; BatchNorm {phase.freeze.batchnorm}")
