"""The conductor: data, plan, training, evaluation, run folder; the Python twin of the commands."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.build import Built, build_backbone
from tlkit.backbones.catalog import MODEL
from tlkit.backbones.given import Given, build_given, open_given
from tlkit.data.prepare import Prepared, prepare
from tlkit.environment import describe_environment, precision, set_environment
from tlkit.errors import Interrupted, RunFolderError
from tlkit.evaluate.evaluator import probabilities
from tlkit.evaluate.metrics import classification_metrics
from tlkit.evaluate.report import draw_confusion, draw_curves, predictions_csv
from tlkit.heads.classification import attach
from tlkit.opened import Run, open_run
from tlkit.progress import Progress, as_progress
from tlkit.recipe import make_spec
from tlkit.spec import ARRAYS, RunSpec
from tlkit.training.cache import features_folder
from tlkit.training.phases import HEAD, TrainPlan, make_plan
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
    spec, arrays = _spec_of(data, val, test, fields)
    shown = as_progress(progress)
    set_environment(spec)
    if spec.out:
        check_free(Path(spec.out))
    spec, given = _open_backbone(spec, arrays.get("backbone"))
    prepared = prepare(spec, arrays, shown)
    if spec.freeze != "auto":
        # A wrong rule, before weights are fetched.
        _make_plan(prepared, _unweighted(spec, given), False)
    built, model = _build(prepared, given)
    plan = _make_plan(prepared, built, bool(callbacks))
    folder = RunFolder(spec.out or next_folder(prepared.source.name, spec.backbone.label))
    _say_plan(plan, shown)
    return _execute(prepared, plan, model, folder, callbacks, shown)


def plan(
    data: Any, *, val: Any = None, test: Any = None, progress: bool | Progress = True, **fields: Any
) -> TrainPlan:
    """Return what `train` with the same arguments would do; nothing is trained or written."""
    spec, arrays = _spec_of(data, val, test, fields)
    spec, given = _open_backbone(spec, arrays.get("backbone"))
    prepared = prepare(spec, arrays, as_progress(progress))
    return _make_plan(prepared, _unweighted(spec, given), False)


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
    spec, given = _open_backbone(run.spec)
    prepared = prepare(spec, {}, shown)
    built, model = _build(prepared, given)
    # Callbacks are gone; a last phase that was fitted for their sake is still fitted.
    fitted = run.plan["phases"][-1]["method"] == "fit"
    plan = _make_plan(prepared, built, fitted)
    return _execute(prepared, plan, model, run.files, (), shown, True)


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


def _open_backbone(spec: RunSpec, model: keras.Model | None = None) -> tuple[RunSpec, Given | None]:
    """Open a backbone of the user's own; return the spec with its size, and its path in full."""
    if not spec.backbone.given:
        return spec, None
    keras.backend.clear_session()  # the layers that a function makes are numbered anew, as below
    given = open_given(spec.backbone.name, model, spec.image_size)
    backbone = spec.backbone.model_copy(update={"name": given.name})
    return spec.model_copy(update={"image_size": given.size, "backbone": backbone}), given


def _build(prepared: Prepared, given: Given | None) -> tuple[Built, keras.Model]:
    spec = prepared.spec
    keras.backend.clear_session()  # names of earlier models would number this one's layers
    labels, asked = prepared.source.labels, spec.backbone
    with precision(spec):
        if given is None:
            built = build_backbone(asked.name, spec.size, asked.weights, asked.alpha)
        else:
            built = build_given(given, asked.cut, asked.preprocessing)
        return built, attach(built.inputs, built.features, len(labels), spec.head)


def _unweighted(spec: RunSpec, given: Given | None) -> Built:
    """Build the backbone for its layers' names and sizes; nothing is loaded or downloaded."""
    if given is not None:
        return build_given(given, spec.backbone.cut, spec.backbone.preprocessing)
    return build_backbone(spec.backbone.name, spec.size, "none", spec.backbone.alpha)


def _make_plan(prepared: Prepared, built: Built, callbacks: bool) -> TrainPlan:
    count = len(prepared.split.train)
    return make_plan(prepared.spec, built.layers, count, len(prepared.source.labels), callbacks)


def _execute(
    prepared: Prepared,
    plan: TrainPlan,
    model: keras.Model,
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
    resumed: bool = False,
) -> Run:
    start = time.monotonic()
    trainer = Trainer(
        model,
        prepared.spec,
        prepared.examples("train"),
        prepared.examples("val"),
        folder,
        features_folder(),
        progress,
        callbacks,
    )
    finished = _restore(trainer, folder) if resumed else _start(prepared, plan, folder)
    try:
        results = trainer.run(plan, finished)
        metrics = _metrics(prepared, plan, model, results, folder, progress)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; the best model so far is kept in {folder.best}. "
            f"Go on with: tlkit train --resume {folder.path}"
        ) from error
    metrics["seconds"]["total"] = round(time.monotonic() - start + prepared.seconds, 3)
    folder.write_json("metrics.json", metrics)
    run = Run(folder, prepared.spec)
    run.model = model
    _say_result(metrics, folder, progress)
    return run


def _start(prepared: Prepared, plan: TrainPlan, folder: RunFolder) -> list[PhaseResult]:
    folder.create()
    folder.write_text("spec.yaml", prepared.spec.to_yaml())
    folder.write_json("plan.json", plan.to_json())
    folder.write_json("env.json", describe_environment(prepared.spec))
    folder.write_json("labels.json", list(prepared.source.labels))
    folder.write_json("scan.json", prepared.scan_json())
    return []


def _restore(trainer: Trainer, folder: RunFolder) -> list[PhaseResult]:
    """Put the state of a stopped run into `trainer`; return its finished phases."""
    if not folder.best.is_file() or not (folder.path / "state.json").is_file():
        return []
    state = folder.read_json("state.json")
    if state["score"] is None:  # stopped before the end of its first epoch
        return []
    best = keras.models.load_model(folder.best, compile=False)
    trainer.model.set_weights(best.get_weights())
    trainer.checkpoints.offer(state["score"][0], -state["score"][1])
    return [PhaseResult(**result) for result in state["finished"]]


def _metrics(
    prepared: Prepared,
    plan: TrainPlan,
    model: keras.Model,
    results: list[PhaseResult],
    folder: RunFolder,
    progress: Progress,
) -> dict[str, Any]:
    """Save the model, evaluate it on the test part, and return `metrics.json`."""
    folder.copy(folder.best, folder.model)  # the best weights are in it, and in `model`
    draw_curves(folder.read_log(), folder.path / "curves.png")
    accuracy, negative_loss = json.loads((folder.path / "state.json").read_text())["score"]
    by_phase = Counter()
    for result in results:
        by_phase[result.name] += result.seconds
    counts = {part: len(ids) for part, ids in prepared.split.ids().items()}
    return {
        "task": "classification",
        "backbone": prepared.spec.backbone.name,
        "regime": plan.regime.value,
        "examples": counts,
        "phases": [
            {
                "name": result.name,
                "trainable_parameters": result.trainable_parameters,
                "seconds": result.seconds,
                "best_val": result.best_val,
                "features_kept": result.cached,
            }
            for result in results
        ],
        "val": {"accuracy": accuracy, "loss": -negative_loss},
        "test": _test_metrics(prepared, model, folder, progress) if counts["test"] else None,
        "seconds": {
            "total": 0.0,
            "scan": round(prepared.seconds, 3),
            "prefix": round(sum(result.prefix_seconds for result in results), 3),
            "head": round(by_phase[HEAD], 3),
            "finetune": round(sum(by_phase.values()) - by_phase[HEAD], 3),
        },
    }


def _test_metrics(
    prepared: Prepared, model: keras.Model, folder: RunFolder, progress: Progress
) -> dict[str, Any]:
    test, labels = prepared.split.test, prepared.source.labels
    part = prepared.examples("test")
    truth = part.classes
    p = probabilities(model, part.pictures(range(len(test))), len(test), progress, "test")
    rows = predictions_csv([e.id for e in test], [e.label for e in test], p, labels)
    folder.write_text("predictions.csv", rows)
    metrics = classification_metrics(truth, p, labels)
    draw_confusion(metrics["confusion"], labels, folder.path / "confusion.png")
    return metrics


def _say_plan(plan: TrainPlan, progress: Progress) -> None:
    progress.say("plan", f"{plan.regime.value} ({plan.regime.reason})")
    for phase in plan.phases:
        progress.say("", f"{phase.name}: {phase.describe()}; BatchNorm {phase.freeze.batchnorm}")


def _say_result(metrics: dict[str, Any], folder: RunFolder, progress: Progress) -> None:
    test = metrics["test"]
    total = metrics["seconds"]["total"]
    if test:
        low, high = test["interval95"]
        progress.say(
            "test",
            f"{test['accuracy']:.3f} of {test['examples']:,} right (95% interval {low:.3f}-"
            f"{high:.3f}), macro F1 {test['macro_f1']:.3f}; {total:.0f} s in all",
        )
    else:
        progress.say("val", f"{metrics['val']['accuracy']:.3f}; no test part; {total:.0f} s in all")
    progress.say("run", str(folder.path))
