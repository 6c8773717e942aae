"""The conductor: data, plan, training, evaluation, run folder; the Python twin of the commands."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tlkit.assembly import assemble, open_backbone, unweighted
from tlkit.backbones.build import Built
from tlkit.backbones.catalog import MODEL
from tlkit.data.prepare import Prepared, prepare
from tlkit.data.sharded import check_out, write_dataset
from tlkit.environment import describe_environment, machine, set_environment
from tlkit.errors import Interrupted, RunFolderError
from tlkit.estimate import compare_estimate, estimate
from tlkit.heads.task import Task
from tlkit.opened import Run, open_run
from tlkit.outcome import measure_run, say_result
from tlkit.picture_grid import check_png, draw_preview
from tlkit.progress import Progress, as_progress
from tlkit.recipe import make_spec
from tlkit.spec import ARRAYS, RunSpec
from tlkit.training.cache import features_folder
from tlkit.training.machine import Machine
from tlkit.training.phases import TrainPlan, make_plan
from tlkit.training.runfolder import RunFolder, check_free, next_folder
from tlkit.training.trainer import PhaseResult, Trainer


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
    spec, arrays = spec_of(data, val, test, fields)
    shown = as_progress(progress)
    set_environment(spec)
    if spec.out:
        check_free(Path(spec.out))
    spec, given = open_backbone(spec, arrays.get("backbone"))
    prepared = prepare(spec, arrays, shown)
    if spec.freeze != "auto":
        # A wrong rule, before weights are fetched.
        plan_of(prepared, unweighted(spec, given))
    devices = machine(spec)
    task, built, model = assemble(prepared, given, devices)
    plan = plan_of(prepared, built, bool(callbacks))
    plan = dataclasses.replace(plan, estimate=estimate(prepared, built, plan))
    folder = RunFolder(spec.out or next_folder(prepared.source.name, spec.backbone.label))
    _say_plan(plan, shown)
    return _execute(prepared, task, plan, model, devices, folder, callbacks, shown)


def plan(
    data: Any,
    *,
    val: Any = None,
    test: Any = None,
    measure: bool = False,
    progress: bool | Progress = True,
    **fields: Any,
) -> TrainPlan:
    """Return what `train` with the same arguments would do; nothing is trained or written.

    Args:
        measure: estimate from timed batches of the real network instead of a rule.
    """
    spec, arrays = spec_of(data, val, test, fields)
    spec, given = open_backbone(spec, arrays.get("backbone"))
    prepared = prepare(spec, arrays, as_progress(progress))
    built = unweighted(spec, given)
    made = plan_of(prepared, built)
    return dataclasses.replace(made, estimate=estimate(prepared, built, made, measure))


def prepare_data(
    data: Any,
    out: str | Path,
    *,
    val: Any = None,
    test: Any = None,
    progress: bool | Progress = True,
    **fields: Any,
) -> Path:
    """Write `data`, scanned and split, as a sharded data set of TensorFlow Datasets.

    Args:
        data, val, test: as for `train`; arrays hold whole numbers.
        out: a new or empty folder; `train` takes it as data.
        **fields: `task`, `table`, `seed` and `strict` of `RunSpec`.

    Raises:
        TlkitError: bad input, or `out` cannot be written; nothing is left there then.

    Example:
        tlkit.prepare_data("flowers/", "prepared/")
        run = tlkit.train("prepared/")
    """
    check_out(Path(out))
    spec, arrays = spec_of(data, val, test, fields)
    shown = as_progress(progress)
    write_dataset(prepare(spec, arrays, shown), Path(out), shown)
    return Path(out)


def preview(
    data: Any,
    out: str | Path = "preview.png",
    *,
    val: Any = None,
    test: Any = None,
    pictures: int = 8,
    draws: int = 6,
    progress: bool | Progress = True,
    **fields: Any,
) -> Path:
    """Draw what training would see of some pictures: augmented, mixed, with their targets.

    Args:
        data, val, test, **fields: as for `train`; `augment`, `mirror`, `mixup`, `cutmix`,
            `balance`, `seed` and the size of the model's input count.
        out: the PNG file; one that is there is replaced.
        pictures: rows of the grid.
        draws: columns besides the picture as it is, each drawn as in another epoch.

    Raises:
        TlkitError: bad input, or `out` cannot be written.

    Example:
        tlkit.preview("flowers/", "seen.png", augment="strong", mixup=0.2)
    """
    path = check_png(out, pictures, draws)
    spec, arrays = spec_of(data, val, test, fields)
    shown = as_progress(progress)
    spec, _ = open_backbone(spec, arrays.get("backbone"))
    draw_preview(prepare(spec, arrays, shown), path, pictures, draws, shown)
    return path


def resume(folder: str | Path, progress: bool | Progress = True) -> Run:
    """Go on with a run that was stopped, at the phase in which it was; a finished one is returned.

    Finished phases are kept; the interrupted one starts again from the best weights so far.

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
    spec, given = open_backbone(run.spec)
    prepared = prepare(spec, {}, shown)
    _check_unchanged(prepared, run)
    devices = machine(spec)
    task, built, model = assemble(prepared, given, devices)
    # Callbacks are gone; a last phase that was fitted for their sake is still fitted.
    fitted = run.plan["phases"][-1]["method"] == "fit"
    plan = plan_of(prepared, built, fitted)
    return _execute(prepared, task, plan, model, devices, run.files, (), shown, True)


def spec_of(
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


def plan_of(prepared: Prepared, built: Built, callbacks: bool = False) -> TrainPlan:
    """Return the plan of a run on `prepared`; `callbacks`: the user passed some."""
    spec = prepared.spec
    classes = len(prepared.source.outputs) if spec.task == "classification" else 0
    return make_plan(spec, built.layers, len(prepared.split.train), classes, callbacks)


def _execute(
    prepared: Prepared,
    task: Task,
    plan: TrainPlan,
    model: keras.Model,
    devices: Machine,
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
    resumed: bool = False,
) -> Run:
    start = time.monotonic()
    trainer = Trainer(
        model,
        task,
        prepared.spec,
        prepared.training(task),
        prepared.examples("val", task.encode),
        folder,
        features_folder(),
        progress,
        callbacks,
        devices,
        prepared.seconds,
    )
    finished = _restore(trainer, folder) if resumed else _start(prepared, task, plan, folder)
    try:
        results = trainer.run(plan, finished)
        metrics = measure_run(prepared, task, plan, model, results, folder, progress)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; the best model so far is kept in {folder.best}. "
            f"Go on with: tlkit train --resume {folder.path}"
        ) from error
    metrics["seconds"]["total"] = round(time.monotonic() - start + prepared.seconds, 3)
    if plan.estimate:  # a resumed run takes a part of what was estimated: not compared
        metrics["estimate"] = compare_estimate(plan.estimate, metrics["seconds"]["total"])
    folder.write_json("metrics.json", metrics)
    run = Run(folder, prepared.spec)
    run.model = model
    say_result(metrics, folder, progress)
    return run


def _start(prepared: Prepared, task: Task, plan: TrainPlan, folder: RunFolder) -> list[PhaseResult]:
    folder.create()
    folder.write_text("spec.yaml", prepared.spec.to_yaml())
    folder.write_json("plan.json", plan.to_json())
    folder.write_json("env.json", describe_environment(prepared.spec))
    folder.write_json("labels.json", list(task.outputs))
    folder.write_json("task.json", task.to_json())
    folder.write_json("scan.json", prepared.scan_json())
    return []


def _restore(trainer: Trainer, folder: RunFolder) -> list[PhaseResult]:
    """Put the state of a stopped run into `trainer`; return its finished phases."""
    if not folder.best.is_file() or not (folder.path / "state.json").is_file():
        return []
    state = folder.read_json("state.json")
    if state["val"] is None:  # stopped before the end of its first epoch
        return []
    best = keras.models.load_model(folder.best, compile=False)
    trainer.model.set_weights(best.get_weights())
    trainer.checkpoints.offer(*state["val"].values())
    folder.keep_log({result["name"] for result in state["finished"]})
    return [PhaseResult(**result) for result in state["finished"]]


def _say_plan(plan: TrainPlan, progress: Progress) -> None:
    progress.say("plan", f"{plan.regime.value} ({plan.regime.reason})")
    for phase in plan.phases:
        progress.say("", f"{phase.name}: {phase.describe()}; BatchNorm {phase.freeze.batchnorm}")
