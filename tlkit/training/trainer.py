"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from tlkit.data.prepare import Examples
from tlkit.engines import candidates
from tlkit.errors import TrainingError
from tlkit.freezing import apply_plan
from tlkit.heads.task import Task
from tlkit.heads.top import PREDICTIONS
from tlkit.progress import Progress
from tlkit.spec import RunSpec
from tlkit.training.budget import Budget
from tlkit.training.cache import Rows
from tlkit.training.callbacks import Bar, Checkpoints, Log
from tlkit.training.machine import ONE_CPU, Machine, precision_of
from tlkit.training.phases import Phase, TrainPlan
from tlkit.training.prefix import (
    Cut,
    FeatureBatches,
    FeatureStore,
    cut_of,
    split_at,
    streamed,
)
from tlkit.training.runfolder import RunFolder
from tlkit.training.schedule import Averages, make_optimizer, scaled
from tlkit.training.smoothing import smoothed
from tlkit.training.strength import solve_head
from tlkit.training.timing import Speed, seconds_per_step


@dataclass(frozen=True)
class PhaseResult:
    """What `metrics.json` says of a phase."""

    name: str
    trainable_parameters: int
    seconds: float
    prefix_seconds: float
    best_val: float
    cached: bool
    gain: float | None = None
    device: str = ""
    precision: str = ""
    images_per_second: float | None = None


class Trainer:
    """Trains `model` by `plan`; the best weights by validation are in it at the end."""

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        spec: RunSpec,
        train: Examples,
        val: Examples,
        folder: RunFolder,
        cache: Path,
        progress: Progress,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        machine: Machine = ONE_CPU,
        spent: float = 0.0,
    ):
        self.model, self.task, self.spec = model, task, spec
        self.train, self.val = train, val
        limit = int(spec.cache_size * 2**30)
        names = candidates(folder.read_engine() or spec.engine, spec.deterministic)
        self.store = FeatureStore(model, cache, limit, (train, val), progress, names)
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        self.checkpoints = Checkpoints(model, task, folder)
        self.machine = machine
        self.budget = Budget(spec.budget, spent)

    def run(self, plan: TrainPlan, finished: Sequence[PhaseResult] = ()) -> list[PhaseResult]:
        """Run the phases that are not `finished`; each starts from the best weights so far."""
        results = list(finished)
        self.checkpoints.finished = [asdict(result) for result in results]
        self.budget.resume(results)
        try:
            for i in range(len(results), len(plan.phases)):
                if not self.budget.begins(plan.phases[i], results, self.progress):
                    break
                results.append(self._run_phase(plan.phases[i], plan.phases[i + 1 :]))
                self.checkpoints.finished = [asdict(result) for result in results]
                self.checkpoints.end_phase()
        except KeyboardInterrupt:
            self.checkpoints.write()
            raise
        return results

    def _run_phase(self, phase: Phase, later: Sequence[Phase]) -> PhaseResult:
        start = time.monotonic()
        apply_plan(self.model, phase.freeze)
        cut = cut_of(self.model, phase.freeze)
        with self.machine.scope():
            _, suffix = split_at(self.model, cut)
            suffix = smoothed(suffix, self.task, self.spec.optimizer.label_smoothing)
        # Solving needs all features at once, over and over: they are pooled, hence small.
        kept = cut is not None and (
            phase.method == "solve" or (not phase.augment and self.store.keeps(cut))
        )
        prefix_start = time.monotonic()
        try:
            if kept:
                # Under a budget the next phase may not be run: only the first is prepared for.
                ahead = later if phase.method == "solve" or not self.budget.limited else ()
                cuts = [*self._cuts_below(cut, ahead), cut]
                train, val = (
                    self.store.rows(cuts, part, what)
                    for part, what in ((self.train, "training"), (self.val, "validation"))
                )
            else:
                train, val = self._streams(phase, cut)
        finally:  # a run that is stopped here keeps its engine too
            if self.store.engine and self.store.engine.name != self.folder.read_engine():
                self.folder.write_json("engine.json", asdict(self.store.engine))
        prefix_seconds = time.monotonic() - prefix_start
        before, speed = self.checkpoints.best, None
        if phase.method == "solve":
            self._solve(phase, train, val, refit=self.spec.head.refit and not later)
        else:
            speed = self._fit(phase, suffix, train, val, deepest=not later)
        if self.checkpoints.best is None:
            raise TrainingError(
                f"{phase.name}: the loss became infinite in every epoch. Choose a lower "
                f"optimizer.learning_rate. Received: {phase.learning_rate:g}"
            )
        metric = self.task.metric
        best = self.checkpoints.best[metric]
        computed = (self.machine.kind, precision_of(self.model), speed) if speed else ()
        self._say_result(phase, f"validation {metric} {best:.3f} is the best so far", computed)
        return PhaseResult(
            phase.name,
            sum(math.prod(v.shape) for v in self.model.trainable_variables),
            round(time.monotonic() - start - prefix_seconds, 3),
            round(prefix_seconds, 3),
            best,
            kept,
            self._gain(before),
            *computed,
        )

    def _gain(self, before: dict[str, float] | None) -> float | None:
        """Return how much more the best model has of what it should have; None: it is the first."""
        if before is None:
            return None
        after = self.checkpoints.best
        return self.task.score(*after.values())[0] - self.task.score(*before.values())[0]

    def _say_result(self, phase: Phase, text: str, computed: tuple) -> None:
        if computed:
            _, precision, speed = computed
            text += f"; {speed:.0f} images/s, {' + '.join(self.machine.devices)}, {precision}"
        self.progress.say(phase.name, text)

    def _cuts_below(self, cut: Cut, later: Sequence[Phase]) -> list[Cut]:
        """Return the cut of the next phase, if on the way its features can be kept as well."""
        for phase in later:
            below = cut_of(self.model, phase.freeze)
            if below is None or phase.augment or below.name == cut.name:
                continue
            return [below] if self.store.keeps(below) else []
        return []

    def _streams(self, phase: Phase, cut: Cut | None):
        """Return endless batches for a phase whose features are not kept."""
        train, val = self.train.stream(phase.augment), self.val.pictures(range(len(self.val)))
        if cut is None:
            return train, val
        prefix = self.store.function(cut)
        return streamed(prefix, train), streamed(prefix, val)

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
                jit_compile=self.machine.jit_compile,
            )

    def _fit(
        self, phase: Phase, suffix: keras.Model, train: Any, val: Any, deepest: bool
    ) -> float | None:
        """Fit; return images per second, None if the budget has no time for an epoch."""
        batch = self.spec.batch_size
        steps, val_steps = math.ceil(len(self.train) / batch), math.ceil(len(self.val) / batch)
        if isinstance(train, Rows):
            seed, balance = self.spec.seed, self.train.balance
            train = FeatureBatches(train, self.train.targets, batch, seed, balance)
            val = FeatureBatches(val, self.val.targets, batch)
        self._compile(phase, suffix, steps)
        if self.budget.limited:
            trial = (
                (train[i] for i in range(len(train)))
                if isinstance(train, FeatureBatches)
                else train
            )
            # A forward pass takes about a third of a training step.
            epoch = (steps + val_steps / 3) * seconds_per_step(suffix, trial)
            shorter = self.budget.shortened(phase, epoch, deepest, self.progress)
            if shorter is None:
                return None
            phase = shorter
            self._compile(phase, suffix, steps)
        speed = Speed(len(self.train))
        bar = Bar(self.progress, phase.name, phase.epochs, steps, self.checkpoints)
        try:
            suffix.fit(
                train,
                epochs=phase.epochs,
                steps_per_epoch=steps,
                validation_data=val,
                validation_steps=val_steps,
                callbacks=self._callbacks(phase, bar, speed),
                # Endless streams come shuffled; Keras would warn that it cannot.
                shuffle=isinstance(train, FeatureBatches),
                verbose=0,
            )
        finally:
            bar.close()
        return speed.images_per_second

    def _callbacks(self, phase: Phase, bar: Bar, speed: Speed) -> list[keras.callbacks.Callback]:
        options = self.spec.optimizer
        made = [
            self.checkpoints,
            Log(self.folder, phase.name, self.task.metric),
            bar,
            speed,
            *self.budget.callbacks(),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.TensorBoard(self.folder.tensorboard / phase.name, write_graph=False),
        ]
        if phase.schedule == "plateau":
            made.append(
                keras.callbacks.ReduceLROnPlateau(
                    "val_loss", options.plateau_factor, options.plateau_patience
                )
            )
        if options.patience:
            made.append(keras.callbacks.EarlyStopping("val_loss", patience=options.patience))
        averages = [Averages()] if options.ema else []
        return made + self.callbacks + averages
