"""The conductor: data, plan, training, evaluation, run folder; the Python twin of the commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tlkit.commands.asked import in_keras_words, spec_of
from tlkit.commands.earlier import before
from tlkit.commands.estimate import compare_estimate
from tlkit.commands.finish import measure_run, say_result
from tlkit.commands.host import as_guest
from tlkit.commands.interruption import (
    Start,
    check_given,
    check_idle,
    check_unchanged,
    check_weights,
    disk_full_told,
    interrupted,
    starting,
)
from tlkit.commands.plan import plan_before, planned, say_memory, say_plan
from tlkit.commands.preview import check_grid, draw_preview
from tlkit.commands.report import report_at_end
from tlkit.commands.setup import Setup, check_freeze, open_backbone, set_up, unweighted
from tlkit.compute.setup import gpu_bytes, machine, set_environment
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.feed.write_tfds import check_out, write_dataset
from tlkit.data.membership import as_text
from tlkit.places import check_free
from tlkit.planning.phases import TrainPlan
from tlkit.progress import Progress, as_progress
from tlkit.run import Run, open_run
from tlkit.runfolder import batches, record
from tlkit.runfolder.environment import describe_environment, hash_weights
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import read_state
from tlkit.training.trainer import Trainer


@in_keras_words
@as_guest()
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
        data: a folder of class folders, one with train / validation / test folders, a zip file of
            either, a CSV file, `tfds:NAME[/config][:split]`, `example:elpv`, an `(images, labels)`
            pair (RGB or grey, 0-255, any size) or a `tf.data.Dataset` of such pairs.
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
    spec, arrays = spec_of(data, val, test, fields, bool(callbacks))
    shown = as_progress(progress)
    set_environment(spec)
    if spec.out:
        check_free(Path(spec.out), resumable=True)
    spec, given = open_backbone(spec, arrays.get("backbone"))
    start = Start()
    try:
        with starting(start, arrays):
            check_freeze(spec, given)
            prepared = load_dataset(spec, arrays, shown, start.create, before(spec))
            devices = machine(spec)
            setup = set_up(prepared, given, devices)
            plan = planned(prepared, setup.built, shown, bool(callbacks))
            say_plan(plan, shown)
            say_memory(plan, spec.batch_size, shown, gpu_bytes(devices))
            _start(setup, plan, start.files)
        return _execute(setup, plan, start.files, callbacks, shown)
    except KeyboardInterrupt as error:
        if start.files is None or not start.files.path.exists():
            raise
        raise interrupted(start.files) from error


@in_keras_words
@as_guest()
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
    shown = as_progress(progress)
    set_environment(spec)
    spec, given = open_backbone(spec, arrays.get("backbone"))
    check_freeze(spec, given)
    prepared = load_dataset(spec, arrays, shown, before=before(spec))
    made = planned(prepared, unweighted(spec, given), shown, measure=measure)
    say_memory(made, spec.batch_size, shown, gpu_bytes(machine(spec)))
    return made


@in_keras_words
@as_guest()
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
        **fields: of `RunSpec`, those that `idle.TAKES` has for `data prepare`.

    Raises:
        TlkitError: bad input, or `out` cannot be written; nothing is left there then.

    Example:
        tlkit.prepare_data("flowers/", "prepared/")
        run = tlkit.train("prepared/")
    """
    check_out(Path(out))
    spec, arrays = spec_of(data, val, test, fields, command="data prepare")
    shown = as_progress(progress)
    write_dataset(load_dataset(spec, arrays, shown), Path(out), shown)
    return Path(out)


@in_keras_words
@as_guest()
def preview(
    data: Any,
    out: str | Path = "preview.png",
    *,
    val: Any = None,
    test: Any = None,
    images: int = 8,
    draws: int = 6,
    progress: bool | Progress = True,
    **fields: Any,
) -> Path:
    """Draw what training would see of some images: augmented, mixed, with their targets.

    Args:
        data, val, test, **fields: as for `train`; `augment`, `mirror`, `mixup`, `cutmix`,
            `balance`, `seed` and the size of the model's input count.
        out: the PNG file; a drawing of an earlier call is replaced.
        images: rows of the grid.
        draws: columns besides the image as it is, each drawn as in another epoch.

    Raises:
        TlkitError: bad input, or `out` cannot be written.

    Example:
        tlkit.preview("flowers/", "seen.png", augment="strong", mixup=0.2)
    """
    path = check_grid(out, images, draws)
    spec, arrays = spec_of(data, val, test, fields, command="data preview")
    shown = as_progress(progress)
    spec, _ = open_backbone(spec, arrays.get("backbone"))
    prepared = load_dataset(spec, arrays, shown)
    with prepared.reading.told():
        draw_preview(prepared, path, images, draws, shown)
    return path


@as_guest()
def resume(
    folder: str | Path, progress: bool | Progress = True, *, batch_size: int | None = None
) -> Run:
    """Go on with a run that was stopped, at any moment; a finished one is returned.

    It ends with the numbers of a run that was never stopped: what was lost since the last write
    of its state is computed again, in the same order and with the same draws.

    Args:
        batch_size: images a step from here on, where memory does not hold those asked for; rates
            by rule follow, and the numbers are no longer those of a run that was never stopped.

    Raises:
        RunFolderError: there is no run, or what it was trained on is gone or has changed.
        SpecError: `batch_size` is none, or the run is finished.
    """
    run, shown = open_run(folder), as_progress(progress)
    record.check_files(run.files)
    if run.finished and run.metrics:  # which are whole
        record.check_model(run.files)
        check_idle(run, batch_size)
        shown.say("run", f"{run.folder} is finished; nothing to do")
        return run
    check_given(run)
    asked = batches.with_batch(run.spec, batch_size)
    record.check_state(run.files, read_state(run.files), record.read_record(run.files))
    set_environment(asked)
    run.files.remove_drafts()
    run.say_state(shown)
    # The last file of a start: without it nothing has been trained.
    started = (run.folder / "scan.json").is_file()
    try:
        with disk_full_told(run.files):
            spec, given = open_backbone(asked)
            prepared = load_dataset(spec, {}, shown, before=before(spec))
            if started:
                check_unchanged(prepared, run)
            devices = machine(spec)
            setup = set_up(prepared, given, devices)
            if started:
                check_weights(hash_weights(setup.model), run)
            plan = plan_before(run, setup.built, spec) if started else None
            if batch_size is not None:
                batches.change_batch(run.files, run.spec, batch_size, plan, shown)
            if plan is None:
                plan = planned(prepared, setup.built, shown)
                _start(setup, plan, run.files)
        return _execute(setup, plan, run.files, (), shown)
    except KeyboardInterrupt as error:
        raise interrupted(run.files) from error


def _execute(
    setup: Setup,
    plan: TrainPlan,
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
) -> Run:
    prepared, model = setup.prepared, setup.model
    state, kept = read_state(folder), record.read_record(folder)
    state.run = kept.run if kept else ""
    state.seconds += prepared.seconds
    session = setup.session(plan, folder, progress, callbacks, state=state, test=True)
    checkpoints = session.checkpoints
    again = f"put it back and go on with: tlkit train --resume {folder.path}, or train anew"
    with disk_full_told(folder), prepared.reading.told(again):
        results = Trainer(session).run(plan)
        measured = prepared.batched(session.batch_size)
        metrics, task, calibration = measure_run(measured, plan, results, session)
        metrics["seconds"]["total"] = round(checkpoints.seconds, 3)
        if plan.estimate:
            metrics["estimate"] = compare_estimate(plan.estimate, metrics["seconds"]["total"])
        last = {"task.json": task.to_json(), "metrics.json": metrics}
        if calibration is not None:
            last = {"calibration.json": calibration.to_json(), **last}
        record.seal(folder, record.as_texts(last))
    report_at_end(prepared, task, folder, progress)
    run = Run(folder, prepared.spec)
    run.model = model
    say_result(metrics, task, folder, progress)
    return run


def _start(setup: Setup, plan: TrainPlan, folder: RunFolder) -> None:
    prepared, task = setup.prepared, setup.task
    digests = prepared.scan.digests.items()
    files = {
        "plan.json": plan.to_json(),
        "env.json": describe_environment(prepared.spec, digests, setup.model),
        "labels.json": list(task.outputs),
        "task.json": task.to_json(),
        "scan.json": prepared.scan_json(),
    }
    texts = {
        "spec.yaml": prepared.spec.to_yaml(),
        "data.json": as_text(prepared.members()),
        **record.as_texts(files),
    }
    record.start(folder, prepared.spec, texts)
