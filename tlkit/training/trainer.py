"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.compute.devices import ONE_CPU, Machine, precision_of
from tlkit.compute.engines import Engine, candidates
from tlkit.data.feed.prepare import Examples, joint_groups
from tlkit.errors import TrainingError
from tlkit.features.cache import Rows
from tlkit.features.store import (
    Cut,
    FeatureStore,
    cut_of,
    split_at,
)
from tlkit.planning.freezing import apply_plan
from tlkit.planning.phases import Phase, TrainPlan
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import note
from tlkit.runfolder.state import PhaseResult, State, assign, values_of
from tlkit.solver.strength import solve_head
from tlkit.spec.run import RunSpec
from tlkit.tasks.pooled import PREDICTIONS
from tlkit.tasks.task import Task
from tlkit.training.budget import Budget
from tlkit.training.callbacks import Checkpoints
from tlkit.training.fitting import Fitting
from tlkit.training.smoothing import smoothed


class Trainer:
    """Trains `model` by `plan`; the best weights by validation are in it at the end.

    Args:
        whole: `train`, `val` and what else the model will be measured on; `store` keeps the
            features of them all.
        state: of the run, where it was stopped; it goes on there.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        spec: RunSpec,
        train: Examples,
        val: Examples,
        whole: Examples,
        folder: RunFolder,
        cache: Path,
        progress: Progress,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        machine: Machine = ONE_CPU,
        spent: float = 0.0,
        state: State | None = None,
    ):
        self.model, self.task, self.spec = model, task, spec
        self.train, self.val = train, val
        limit = int(spec.cache_size * 2**30)
        names = candidates(folder.read_engine() or spec.engine, spec.deterministic)
        self.store = FeatureStore(model, cache, limit, whole, progress, names, self._note_engine)
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        self.machine = machine
        self.estimates: dict[str, dict[str, Any]] = {}
        self.budget = Budget(spec.budget, spent)
        # Random generators of layers (dropout): each phase begins with them as they are now.
        weights = {id(variable) for variable in model.weights}
        self._generators = [v for v in model.variables if id(v) not in weights]
        self._seeds = values_of(self._generators)
        self.checkpoints = Checkpoints(model, task, folder, state or State())
        if self.batch_size != spec.batch_size:
            self.use_batch(self.batch_size)

    @property
    def batch_size(self) -> int:
        """Images in one training step: as asked for, or fewer where memory did not hold them."""
        return self.checkpoints.state.batch_size or self.spec.batch_size

    def use_batch(self, size: int) -> None:
        """Go on with batches of `size`."""
        self.checkpoints.state = replace(self.checkpoints.state, batch_size=size)
        self.train, self.val = self.train.batched(size), self.val.batched(size)

    def reset_generators(self) -> None:
        """Put the random generators of layers back to where each phase begins."""
        assign(self._generators, self._seeds)

    def run(self, plan: TrainPlan) -> list[PhaseResult]:
        """Run the phases that are not finished; each starts from the best weights so far."""
        state = self.checkpoints.state
        self.folder.keep_log(state.log_rows, state.log_digest)
        self.estimates = {row["name"]: row for row in (plan.estimate or {}).get("phases", ())}
        results = [PhaseResult(**result) for result in self.checkpoints.state.finished]
        self.budget.resume(results)
        try:
            for i in range(len(results), len(plan.phases)):
                if not self.budget.begins(plan.phases[i], results, self.progress):
                    break
                results.append(self._run_phase(plan.phases[i], plan.phases[i + 1 :]))
                self.checkpoints.end_phase(asdict(results[-1]))
        except KeyboardInterrupt:
            self.checkpoints.write()
            raise
        self.checkpoints.end()
        return results

    def _run_phase(self, phase: Phase, later: Sequence[Phase]) -> PhaseResult:
        start = self.checkpoints.begin_phase()
        self.reset_generators()
        apply_plan(self.model, phase.freeze)
        cut = cut_of(self.model, phase.freeze)
        with self.machine.scope():
            _, suffix = split_at(self.model, cut)
            suffix = smoothed(suffix, self.task, self.spec.optimizer.label_smoothing)
            suffix = self.machine.share(suffix)
        # Solving needs all features at once, over and over: they are pooled, hence small.
        solve = phase.method == "solve"
        prefix_start = time.monotonic()
        if kept := cut is not None and (solve or not phase.augment):
            # Under a budget the next phase may not be run: only the first is prepared for.
            ahead = later if solve or not self.budget.limited else ()
            cuts = [*self._cuts_below(cut, ahead), cut]
            kept = solve or self.store.keeps(cut)
        rows = None
        if kept:
            train = self.store.rows(cuts, self.train.seen or self.train)
            rows = train, self.store.rows(cuts, self.val)
        prefix_seconds = time.monotonic() - prefix_start
        speed = None
        if solve:
            self._solve(phase, *rows, refit=self.spec.head.refit and not later)
        elif not self.checkpoints.state.over and self.checkpoints.state.epoch < phase.epochs:
            speed = Fitting(self, phase, suffix, cut, rows, deepest=not later).run()
        if self.checkpoints.best is None:
            raise TrainingError(
                f"{phase.name}: the loss became infinite in every epoch. Choose a lower "
                f"optimizer.learning_rate. Received: {phase.learning_rate:g}"
            )
        metric = self.task.metric
        best = self.checkpoints.best[metric]
        fitted = phase.method == "fit"
        ran_on = ()
        if fitted:
            ran_on = (self.machine.label, precision_of(self.model), speed, self.batch_size)
        self._say_result(phase, f"validation {metric} {best:.3f} is the best so far", ran_on)
        return PhaseResult(
            phase.name,
            sum(math.prod(v.shape) for v in self.model.trainable_variables),
            round(time.monotonic() - start - prefix_seconds, 3),
            round(prefix_seconds, 3),
            best,
            kept,
            self._gain(self.checkpoints.state.before),
            *ran_on,
        )

    def _note_engine(self, engine: Engine) -> None:
        """Write which engine was chosen: a resumed run keeps it, and what its trial told."""
        if engine.name != self.folder.read_engine():
            note(self.folder, "engine.json", asdict(engine))

    def _gain(self, before: dict[str, float] | None) -> float | None:
        """Return how much more the best model has of what it should have; None: it is the first."""
        if before is None:
            return None
        after = self.checkpoints.best
        return self.task.score(*after.values())[0] - self.task.score(*before.values())[0]

    def _say_result(self, phase: Phase, text: str, ran_on: tuple) -> None:
        if ran_on and ran_on[2]:
            devices, precision, speed, _ = ran_on
            text += f"; {speed:.0f} images/s, {devices}, {precision}"
        self.progress.say(phase.name, text)

    def _cuts_below(self, cut: Cut, later: Sequence[Phase]) -> list[Cut]:
        """Return the cut of the next phase, if on the way its features can be kept as well."""
        for phase in later:
            below = cut_of(self.model, phase.freeze)
            if below is None or phase.augment or below.name == cut.name:
                continue
            return [below] if self.store.keeps(below, cut) else []
        return []

    def _solve(self, phase: Phase, train: Rows, val: Rows, refit: bool) -> None:
        start = time.monotonic()
        dense = self.model.get_layer(PREDICTIONS)
        head = self.spec.head
        chosen = solve_head(
            train,
            self.train.targets,
            val,
            self.val.targets,
            self.task,
            lambda targets: self.task.balance(targets, self.spec.balance).whole,
            choice=head.strength,
            refit=refit,
            seed=self.spec.seed,
            views=self.train.views,
            groups=joint_groups(self.train, self.val),
        )
        solution, kept = chosen.solution, chosen.delivered
        self.progress.say(phase.name, chosen.reason)
        dense.set_weights([kept.kernel, kept.bias])
        metric = self.task.metric
        for i, step in enumerate(solution.path, start=1):
            values = {"l2": step.l2, "loss": step.loss, metric: step.metric}
            values |= {"val_loss": step.val_loss, f"val_{metric}": step.val_metric}
            row = {name: f"{value:.6g}" for name, value in values.items()}
            seconds = f"{time.monotonic() - start:.3f}" if i == len(solution.path) else ""
            row |= {"phase": phase.name, "epoch": i, "seconds": seconds}
            self.folder.append_log(metric, row)
        # Of a refit these are the figures from before: it has seen the validation part.
        best = next(step for step in solution.path if step.l2 == solution.l2)
        self.checkpoints.offer(best.val_loss, best.val_metric)
