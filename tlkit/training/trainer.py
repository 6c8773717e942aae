"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from tlkit.data.pipeline import endless
from tlkit.data.prepare import Examples, joint_groups
from tlkit.engines import Engine, candidates
from tlkit.errors import TrainingError
from tlkit.freezing import apply_plan
from tlkit.heads.task import Task
from tlkit.heads.top import PREDICTIONS
from tlkit.progress import Progress
from tlkit.spec import RunSpec
from tlkit.training.budget import Budget
from tlkit.training.cache import Rows
from tlkit.training.callbacks import Bar, Checkpoints, Log, Resumption, WholeEpochs
from tlkit.training.machine import ONE_CPU, Machine, precision_of
from tlkit.training.phases import Phase, TrainPlan
from tlkit.training.prefix import (
    Cut,
    FeatureBatches,
    FeatureStore,
    computed,
    cut_of,
    split_at,
)
from tlkit.training.runfolder import RunFolder
from tlkit.training.schedule import Averages, counting_callbacks, make_optimizer, scaled
from tlkit.training.smoothing import smoothed
from tlkit.training.state import PhaseResult, State, assign, values_of
from tlkit.training.strength import solve_head
from tlkit.training.timing import TRIAL_STEPS, Speed, seconds_per_step


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
        self.budget = Budget(spec.budget, spent)
        # Random generators of layers (dropout): each phase begins with them as they are now.
        weights = {id(variable) for variable in model.weights}
        self._generators = [v for v in model.variables if id(v) not in weights]
        self._seeds = values_of(self._generators)
        self.checkpoints = Checkpoints(model, task, folder, state or State())

    def run(self, plan: TrainPlan) -> list[PhaseResult]:
        """Run the phases that are not finished; each starts from the best weights so far."""
        self.folder.keep_log(self.checkpoints.state.log_rows)
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
        return results

    def _run_phase(self, phase: Phase, later: Sequence[Phase]) -> PhaseResult:
        start = self.checkpoints.begin_phase()
        assign(self._generators, self._seeds)
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
        if kept:
            train = self.store.rows(cuts, self.train.seen or self.train)
            val = self.store.rows(cuts, self.val)
        else:
            train, val = self._streams(phase, cut)
        prefix_seconds = time.monotonic() - prefix_start
        speed = None
        if solve:
            self._solve(phase, train, val, refit=self.spec.head.refit and not later)
        elif not self.checkpoints.state.over and self.checkpoints.state.epoch < phase.epochs:
            speed = self._fit(phase, suffix, cut, train, val, deepest=not later)
        if self.checkpoints.best is None:
            raise TrainingError(
                f"{phase.name}: the loss became infinite in every epoch. Choose a lower "
                f"optimizer.learning_rate. Received: {phase.learning_rate:g}"
            )
        metric = self.task.metric
        best = self.checkpoints.best[metric]
        fitted = phase.method == "fit"
        ran_on = (self.machine.label, precision_of(self.model), speed) if fitted else ()
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
            self.folder.write_json("engine.json", asdict(engine))

    def _gain(self, before: dict[str, float] | None) -> float | None:
        """Return how much more the best model has of what it should have; None: it is the first."""
        if before is None:
            return None
        after = self.checkpoints.best
        return self.task.score(*after.values())[0] - self.task.score(*before.values())[0]

    def _say_result(self, phase: Phase, text: str, ran_on: tuple) -> None:
        if ran_on and ran_on[-1]:
            devices, precision, speed = ran_on
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

    def _streams(self, phase: Phase, cut: Cut | None):
        """Return the batches of all epochs to come, for a phase whose features are not kept."""
        epochs = range(self.checkpoints.state.epoch, phase.epochs)
        # Where views cannot be kept, they are drawn.
        train = self.train.stream(phase.augment or self.train.views > 1, epochs)
        prefix = None if cut is None else self.store.function(cut)

        def validation():
            pictures = self.val.pictures(range(len(self.val)))
            return pictures if prefix is None else computed(prefix, pictures)

        if prefix is not None:
            train = endless(partial(computed, prefix, train))
        return train, endless(validation)

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

    def _compile(self, phase: Phase, suffix: keras.Model, steps: int) -> None:
        with self.machine.scope():
            optimizer = make_optimizer(phase, self.spec.optimizer, suffix, steps)
            if precision_of(self.model) == "float16":
                optimizer = scaled(optimizer)
            suffix.compile(
                optimizer,
                self.task.loss(),
                metrics=[self.task.keras_metric()],
                steps_per_execution=min(self.spec.optimizer.steps_per_execution, steps),
                jit_compile=self.machine.jit_compile,
            )
            # Or the first state would lack its variables.
            optimizer.build(suffix.trainable_variables)

    def _fit(
        self,
        phase: Phase,
        suffix: keras.Model,
        cut: Cut | None,
        train: Any,
        val: Any,
        deepest: bool,
    ) -> float | None:
        """Fit; return images per second, None if the budget has no time for an epoch."""
        batch = self.spec.batch_size
        steps, val_steps = math.ceil(len(self.train) / batch), math.ceil(len(self.val) / batch)
        if isinstance(train, Rows):
            epochs = range(self.checkpoints.state.epoch, phase.epochs)
            seed, balance = self.spec.seed, self.train.balance
            train = FeatureBatches(
                train, self.train.targets, batch, seed, balance, epochs, self.train.views
            )
            val = endless(FeatureBatches(val, self.val.targets, batch).__iter__)
        state = self.checkpoints.state
        self._compile(phase, suffix, steps)
        if self.budget.limited:
            shorter = self._shortened(phase, suffix, cut, train, steps + val_steps / 3, deepest)
            if shorter is None:
                return None
            phase = shorter
            self._compile(phase, suffix, steps)
        if state.variables:
            assign(suffix.variables, state.variables)
            assign(suffix.optimizer.variables, state.optimizer)
        speed = Speed(len(self.train))
        bar = Bar(self.progress, phase.name, phase.epochs, steps, self.checkpoints)
        try:
            suffix.fit(
                endless(train.__iter__) if isinstance(train, FeatureBatches) else train,
                initial_epoch=state.epoch,
                epochs=phase.epochs,
                shuffle=False,  # the batches come shuffled, as they do in a resumed run
                steps_per_epoch=steps,
                validation_data=val,
                validation_steps=val_steps,
                callbacks=self._callbacks(phase, bar, speed, WholeEpochs(steps, val_steps)),
                verbose=0,
            )
        finally:
            bar.close()
        return speed.images_per_second

    def _shortened(
        self,
        phase: Phase,
        suffix: keras.Model,
        cut: Cut | None,
        train: Any,
        steps: float,
        deepest: bool,
    ) -> Phase | None:
        """Return `phase` with the epochs that the budget has time for; None: not one.

        Args:
            steps: of an epoch; a forward pass takes about a third of a training step.
        """
        state = self.checkpoints.state
        if state.epochs:  # decided before the run was stopped
            return replace(phase, epochs=state.epochs)
        if isinstance(train, FeatureBatches):
            trial = (train[i] for i in range(min(len(train), TRIAL_STEPS + 1)))
        else:  # the phase's own stream must not lose its first batches
            trial, _ = self._streams(phase, cut)
        seconds = steps * seconds_per_step(suffix, trial)
        assign(self._generators, self._seeds)
        shorter = self.budget.shortened(phase, seconds, deepest, self.progress)
        state.epochs = shorter.epochs if shorter else None
        return shorter

    def _callbacks(
        self, phase: Phase, *watching: keras.callbacks.Callback
    ) -> list[keras.callbacks.Callback]:
        options = self.spec.optimizer
        counting = counting_callbacks(phase, options)
        made = [
            self.checkpoints,
            Log(self.folder, phase.name, self.task.metric),
            *watching,
            *self.budget.callbacks(),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.TensorBoard(self.folder.tensorboard / phase.name, write_graph=False),
            *counting,
            *self.callbacks,
        ]
        if options.ema:
            made.append(Averages())
        return [*made, Resumption(self.checkpoints, phase.epochs, counting)]
