"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import keras

from tlkit.compute.devices import precision_of
from tlkit.data.feed.pipeline import endless
from tlkit.errors import TrainingError
from tlkit.features.cut import cut_of, split_at
from tlkit.features.rows import Rows
from tlkit.planning.freezing import apply_plan
from tlkit.planning.phases import Phase, TrainPlan
from tlkit.runfolder.state import PhaseResult
from tlkit.training.fitting import Fitting
from tlkit.training.session import Session
from tlkit.training.smoothing import smoothed
from tlkit.training.solving import solved_head
from tlkit.training.whole import whole_metric


class Trainer:
    """Trains the model of a session; the best weights by validation are in it at the end."""

    def __init__(self, session: Session):
        self.session = session

    def run(self, plan: TrainPlan) -> list[PhaseResult]:
        """Run the phases that are not finished; each starts from the best weights so far."""
        session = self.session
        state = session.checkpoints.state
        session.folder.keep_log(state.log_rows, state.log_digest)
        session.estimates = {row["name"]: row for row in (plan.estimate or {}).get("phases", ())}
        results = [PhaseResult(**result) for result in session.checkpoints.state.finished]
        session.budget.resume(results)
        if session.spec.init is not None and session.checkpoints.best is None:
            self._offer_start()
        try:
            for i in range(len(results), len(plan.phases)):
                if not session.budget.begins(plan.phases[i], results, session.progress):
                    break
                results.append(self._run_phase(plan.phases[i], plan.phases[i + 1 :]))
                session.checkpoints.end_phase(asdict(results[-1]))
        except KeyboardInterrupt:
            session.checkpoints.write()
            raise
        session.checkpoints.end()
        return results

    def _offer_start(self) -> None:
        """Measure the earlier run's model on the validation part: what comes must be better."""
        session = self.session
        task, metric = session.task, session.task.keras_metric()
        # A model of its own: what is compiled would be saved with the delivered one.
        model = keras.Model(session.model.input, session.model.output)
        with session.machine.scope():
            model.compile(loss=task.loss(), metrics=[] if metric is None else [metric])
        val = session.val
        images = endless(lambda: val.batches(range(len(val))))
        steps = math.ceil(len(val) / session.batch_size)
        found = model.evaluate(images, steps=steps, verbose=0, return_dict=True)
        if task.ranks_whole:
            found[task.metric] = whole_metric(task, model, val.batches(range(len(val))))
        session.checkpoints.offer(found["loss"], found[task.metric])
        value = f"validation {task.metric} {found[task.metric]:.3f}"
        session.progress.say("init", f"{value} before any training")

    def _run_phase(self, phase: Phase, later: Sequence[Phase]) -> PhaseResult:
        session = self.session
        start = session.checkpoints.begin_phase()
        session.reset_generators()
        apply_plan(session.model, phase.freeze)
        cut = cut_of(session.model, phase.freeze)
        with session.machine.scope():
            _, suffix = split_at(session.model, cut)
            suffix = smoothed(suffix, session.task, session.spec.optimizer.label_smoothing)
            suffix = session.machine.share(suffix)
        solve = phase.method == "solve"
        prefix_start = time.monotonic()
        # Under a budget the next phase may not be run: only the first is prepared for.
        ahead = later if solve or not session.budget.limited else ()
        cuts, rows = session.store.cuts(phase, ahead), None
        if cuts:
            train = session.store.rows(cuts, session.train.all_views or session.train)
            rows = train, session.store.rows(cuts, session.val)
        prefix_seconds = time.monotonic() - prefix_start
        speed = calibration = None
        if solve:
            calibration = self._solve(phase, *rows, refit=session.spec.head.refit and not later)
        elif not session.checkpoints.state.over and session.checkpoints.state.epoch < phase.epochs:
            speed = Fitting(session, phase, suffix, cut, rows, deepest=not later).run()
        if session.checkpoints.best is None:
            raise TrainingError(
                f"{phase.name}: the loss became infinite in every epoch. Choose a lower "
                f"optimizer.learning_rate. Received: {phase.learning_rate:g}"
            )
        metric = session.task.metric
        best = session.checkpoints.best[metric]
        fitted = phase.method == "fit"
        ran_on = ()
        if fitted:
            ran_on = (session.machine.label, precision_of(session.model), speed, session.batch_size)
        self._say_result(phase, f"validation {metric} {best:.3f} is the best so far", ran_on)
        return PhaseResult(
            phase.name,
            sum(math.prod(v.shape) for v in session.model.trainable_variables),
            round(time.monotonic() - start - prefix_seconds, 3),
            round(prefix_seconds, 3),
            best,
            bool(cuts),
            self._gain(session.checkpoints.state.before),
            *ran_on,
            calibration=calibration,
        )

    def _gain(self, before: dict[str, float] | None) -> float | None:
        """Return how much more the best model has of what it should have; None: it is the first."""
        session = self.session
        if before is None:
            return None
        metric = session.task.metric
        after, before = (
            session.task.score(best["loss"], best[metric])[0]
            for best in (session.checkpoints.best, before)
        )
        return after - before

    def _say_result(self, phase: Phase, text: str, ran_on: tuple) -> None:
        session = self.session
        if ran_on and ran_on[2]:
            devices, precision, speed, _ = ran_on
            text += f"; {speed:.0f} images/s, {devices}, {precision}"
        session.progress.say(phase.name, text)

    def _solve(self, phase: Phase, train: Rows, val: Rows, refit: bool) -> dict[str, Any] | None:
        """Solve the head and keep it; return the calibration by its folds, if there were any."""
        session = self.session
        start = time.monotonic()
        solution = solved_head(session, train, val, refit)
        session.progress.say(phase.name, solution.reason)
        for name, weights in solution.weights.items():
            session.model.get_layer(name).set_weights(weights)
        metric = session.task.metric
        for i, step in enumerate(solution.path, start=1):
            values = {"l2": step.l2, "loss": step.loss, metric: step.metric}
            values |= {"val_loss": step.val_loss, f"val_{metric}": step.val_metric}
            row = {name: f"{value:.6g}" for name, value in values.items()}
            seconds = f"{time.monotonic() - start:.3f}" if i == len(solution.path) else ""
            row |= {"phase": phase.name, "epoch": i, "seconds": seconds}
            session.folder.append_log(metric, row)
        best = next(step for step in solution.path if step.l2 == solution.l2)
        session.checkpoints.offer(best.val_loss, best.val_metric)
        return solution.calibration.to_json() if solution.calibration else None
