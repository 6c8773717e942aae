"""The outcome of a run: the model saved, measured on the test part, and said in a line."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tlkit.commands.calibrate import calibration_of, say_calibration
from tlkit.compute.engines import CHECKED, disagreement, inference, reference
from tlkit.compute.memory import halving
from tlkit.data.feed.dataset import Prepared
from tlkit.data.feed.examples import Examples
from tlkit.evaluate.evaluator import Consume, T, answered, answered_part, measured, together
from tlkit.features.cut import cut_of, split_at
from tlkit.features.rows import Rows
from tlkit.planning.phases import HEAD, TrainPlan
from tlkit.progress import Progress
from tlkit.reporting.figures import draw_curves
from tlkit.reporting.written import as_csv
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import PhaseResult
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.probabilities import compared
from tlkit.tasks.task import Task
from tlkit.training.session import Session


def measure_run(
    prepared: Prepared, plan: TrainPlan, results: list[PhaseResult], session: Session
) -> tuple[dict[str, Any], Task, Calibration | None]:
    """Save the model, evaluate it on the test part; return `metrics.json`, the task to keep, and
    the calibration of tasks that have one.

    Args:
        results: of the phases of `plan` that were run.
        session: after them; the best weights are in its model.
    """
    task, folder, progress = session.task, session.folder, session.progress
    folder.copy(folder.best, folder.model)  # the best weights are in it, and in `model`
    if log := folder.read_log():
        draw_curves(log, folder.path / "curves.png", folder.path.name, session.checkpoints.best)
    answer = _answerer(plan, results, session)

    @functools.cache
    def validated() -> tuple[np.ndarray, np.ndarray]:
        part = prepared.examples("val", task.encode)
        return part.targets[: len(part)], answer(part, "validation", together)

    task, calibration = task.tuned(validated), None
    if task.calibrates:
        calibration = calibration_of(task, prepared.spec, results[-1], validated)
        say_calibration(calibration, progress)
    by_phase = Counter()
    for result in results:
        by_phase[result.name] += result.seconds
    counts = {part: len(ids) for part, ids in prepared.split.ids().items()}
    test = None
    if counts["test"]:
        test = _test_metrics(prepared, task, answer, folder, progress, calibration)
    metrics = {
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
                "batch_size": result.batch_size,
            }
            for result in results
        ],
        "prefix": folder.read_json("engine.json") if folder.read_engine() else None,
        "val": session.checkpoints.best | _val_figures(prepared, task, answer),
        "test": test,
        "seconds": {
            "total": 0.0,
            "scan": round(prepared.seconds, 3),
            "prefix": round(sum(result.prefix_seconds for result in results), 3),
            "head": round(by_phase[HEAD], 3),
            "finetune": round(sum(by_phase.values()) - by_phase[HEAD], 3),
        },
    }
    return metrics, task, calibration


Predict = Callable[[Examples, str, Consume[T]], T]
"""From a part and its name to what is made of the model's outputs for it."""


def _answerer(plan: TrainPlan, results: list[PhaseResult], session: Session) -> Predict:
    """Return what answers a part: by kept features where the last phase trained on such.

    No phase trained what lies below its cut, so the features are those of the delivered model; for
    the next run of another regime, head or seed they are there. What they give is held against the
    whole model on the first images, as an engine is: it is the delivered model that is measured.
    """
    model, store, progress = session.model, session.store, session.progress
    cut = cut_of(model, plan.phases[len(results) - 1].freeze) if results[-1].cached else None

    def answer(part: Examples, name: str, consume: Consume[T]) -> T:
        if cut is not None:
            rows, (_, suffix) = store.rows([cut], part), split_at(model, cut)
            sample, *_ = next(iter(part.batches(range(min(CHECKED, len(part))))))
            expected = reference(model, np.asarray(sample))
            say = partial(progress.say, name)

            def first(size: int) -> np.ndarray:
                function, pieces = inference(suffix, len(part)), _pieces(rows, size, CHECKED)
                return np.concatenate([np.asarray(function(piece)) for (piece,) in pieces])

            given = halving(first, CHECKED, name, say)[: len(expected[0])]
            difference, allowed = disagreement(model, [given], expected)
            if difference <= allowed:

                def some(size: int) -> T:
                    pieces = _pieces(rows, size, len(rows))
                    return consume(answered(suffix, pieces, len(part), progress, name))

                return halving(some, PIECE, name, say)
            text = f"kept features answer otherwise than the model, by {difference:.2g}"
            progress.say(name, f"{text}: measured by the whole model")
        return answered_part(model, part, progress, name, consume)

    return answer


PIECE = 32
"""Kept features that are answered at a time."""


def _pieces(rows: Rows, size: int, count: int) -> Iterator[tuple[np.ndarray]]:
    """Yield the features of the first `count` images in batches."""
    for start in range(0, min(count, len(rows)), size):
        yield (rows.take(slice(start, start + size)),)


def _val_figures(prepared: Prepared, task: Task, answer: Predict) -> dict[str, Any]:
    """Return what a task tells of the validation part beside loss and metric."""
    if not task.val_figures:
        return {}
    part = prepared.examples("val", task.encode)
    measure = partial(measured, task, prepared.split.val, part.targets)
    found = answer(part, "validation", measure).result()
    return {name: found[name] for name in task.val_figures}


def _test_metrics(
    prepared: Prepared,
    task: Task,
    answer: Predict,
    folder: RunFolder,
    progress: Progress,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Measure the test part and write `predictions.csv`: of the network as it was trained."""
    test, part = prepared.split.test, prepared.examples("test", task.encode)
    shown = {"rendering": prepared.scan.rendering}
    found = answer(part, "test", partial(measured, task, test, part.targets, **shown))
    folder.write_text("predictions.csv", as_csv(found.rows()))
    metrics = found.result()
    if calibration is not None:
        metrics["calibration"] = found.calibration(calibration.temperature)
    if note := found.draw(folder.path):
        progress.say("note", note)
    return metrics


def say_result(metrics: dict[str, Any], task: Task, folder: RunFolder, progress: Progress) -> None:
    total = f"{metrics['seconds']['total']:.0f} s in all"
    if metrics["test"]:
        if text := compared(metrics["test"]):
            progress.say("calibrate", f"on the test part {text}")
        progress.say("test", f"{task.headline(metrics['test'])}; {total}")
    else:
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics["val"].items())
        progress.say("val", f"{values}; no test part; {total}")
    if "estimate" in metrics:
        low, high = metrics["estimate"]["seconds"]
        progress.say(
            "took", f"{metrics['seconds']['total']:.0f} s, {low:.0f}-{high:.0f} s were estimated"
        )
    progress.say("run", str(folder.path))
