"""The outcome of a run: the model saved, measured on the test part, and said in a line."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras

from tlkit.data.prepare import Prepared
from tlkit.evaluate.evaluator import outputs
from tlkit.evaluate.metrics import headline, measure
from tlkit.evaluate.report import draw_curves, draw_metrics, predictions_csv
from tlkit.heads.multilabel import Multilabel
from tlkit.heads.task import Task
from tlkit.progress import Progress
from tlkit.training.phases import HEAD, TrainPlan
from tlkit.training.runfolder import RunFolder
from tlkit.training.state import PhaseResult


def measure_run(
    prepared: Prepared,
    task: Task,
    plan: TrainPlan,
    model: keras.Model,
    results: list[PhaseResult],
    folder: RunFolder,
    progress: Progress,
    best: dict[str, float],
) -> dict[str, Any]:
    """Save the model, evaluate it on the test part, and return `metrics.json`.

    Args:
        best: loss and metric of the model on the validation part.
    """
    folder.copy(folder.best, folder.model)  # the best weights are in it, and in `model`
    draw_curves(folder.read_log(), folder.path / "curves.png")
    if isinstance(task, Multilabel):
        task = _tuned(prepared, task, model, folder, progress)
    by_phase = Counter()
    for result in results:
        by_phase[result.name] += result.seconds
    counts = {part: len(ids) for part, ids in prepared.split.ids().items()}
    return {
        "task": task.name,
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
                "gain": result.gain,
                "device": result.device,
                "precision": result.precision,
                "images_per_second": result.images_per_second,
            }
            for result in results
        ],
        "prefix": folder.read_json("engine.json") if folder.read_engine() else None,
        "val": best,
        "test": (
            _test_metrics(prepared, task, model, folder, progress) if counts["test"] else None
        ),
        "seconds": {
            "total": 0.0,
            "scan": round(prepared.seconds, 3),
            "prefix": round(sum(result.prefix_seconds for result in results), 3),
            "head": round(by_phase[HEAD], 3),
            "finetune": round(sum(by_phase.values()) - by_phase[HEAD], 3),
        },
    }


def _tuned(
    prepared: Prepared, task: Multilabel, model: keras.Model, folder: RunFolder, progress: Progress
) -> Multilabel:
    """Choose the threshold of each label on the validation part, and keep them."""
    part = prepared.examples("val", task.encode)
    p = outputs(model, part.pictures(range(len(part))), len(part), progress, "threshold")
    task = task.with_thresholds(part.targets, p)
    folder.write_json("task.json", task.to_json())
    return task


def _test_metrics(
    prepared: Prepared, task: Task, model: keras.Model, folder: RunFolder, progress: Progress
) -> dict[str, Any]:
    test, part = prepared.split.test, prepared.examples("test", task.encode)
    answers = outputs(model, part.pictures(range(len(part))), len(part), progress, "test")
    rows = predictions_csv(task, [e.id for e in test], [e.label for e in test], answers)
    folder.write_text("predictions.csv", rows)
    metrics = measure(task, part.targets, answers)
    draw_metrics(task, metrics, part.targets, answers, folder.path)
    return metrics


def say_result(metrics: dict[str, Any], folder: RunFolder, progress: Progress) -> None:
    total = f"{metrics['seconds']['total']:.0f} s in all"
    if metrics["test"]:
        progress.say("test", f"{headline(metrics['test'])}; {total}")
    else:
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics["val"].items())
        progress.say("val", f"{values}; no test part; {total}")
    if "estimate" in metrics:
        low, high = metrics["estimate"]["seconds"]
        progress.say(
            "took", f"{metrics['seconds']['total']:.0f} s, {low:.0f}-{high:.0f} s were estimated"
        )
    progress.say("run", str(folder.path))
