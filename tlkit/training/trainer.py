"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras

from tlkit.data.prepare import Examples
from tlkit.engines import candidates
from tlkit.errors import TrainingError
from tlkit.freezing import apply_plan
from tlkit.heads.task import Task
from tlkit.heads.top import PREDICTIONS
from tlkit.progress import Progress
from tlkit.spec import RunSpec
from tlkit.training.cache import Rows
from tlkit.training.callbacks import Bar, Checkpoints, Log
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
from tlkit.training.schedule import make_optimizer
from tlkit.training.solver import solve


@dataclass(frozen=True)
class PhaseResult:
    """What `metrics.json` says of a phase."""

    name: str
    trainable_parameters: int
    seconds: float
    prefix_seconds: float
    best_val: float
    cached: bool


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
    ):
        self.model, self.task, self.spec = model, task, spec
        self.train, self.val = train, val
        limit = int(spec.cache_size * 2**30)
        names = candidates(folder.read_engine() or spec.engine, spec.deterministic)
        self.store = FeatureStore(model, cache, limit, (train, val), progress, names)
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        self.checkpoints = Checkpoints(model, task, folder)

    def run(self, plan: TrainPlan, finished: Sequence[PhaseResult] = ()) -> list[PhaseResult]:
        """Run the phases that are not `finished`; each starts from the best weights so far."""
        results = list(finished)
        self.checkpoints.finished = [asdict(result) for result in results]
        try:
            for i in range(len(results), len(plan.phases)):
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
        _, suffix = split_at(self.model, cut)
        # Solving needs all features at once, over and over: they are pooled, hence small.
        kept = cut is not None and (
            phase.method == "solve" or (not phase.augment and self.store.keeps(cut))
        )
        prefix_start = time.monotonic()
        try:
            if kept:
                cuts = [*self._cuts_below(cut, later), cut]
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
        if phase.method == "solve":
            self._solve(phase, train, val)
        else:
            self._fit(phase, suffix, train, val)
        if self.checkpoints.best is None:
            raise TrainingError(
                f"{phase.name}: the loss became infinite in every epoch. Choose a lower "
                f"optimizer.learning_rate. Received: {phase.learning_rate:g}"
            )
        metric = self.task.metric
        best = self.checkpoints.best[metric]
        self.progress.say(phase.name, f"validation {metric} {best:.3f} is the best so far")
        return PhaseResult(
            phase.name,
            sum(math.prod(v.shape) for v in self.model.trainable_variables),
            round(time.monotonic() - start - prefix_seconds, 3),
            round(prefix_seconds, 3),
            best,
            kept,
        )

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

    def _solve(self, phase: Phase, train: Rows, val: Rows) -> None:
        start = time.monotonic()
        dense = self.model.get_layer(PREDICTIONS)
        solution = solve(
            train, self.train.targets, val, self.val.targets, self.task, self.train.balance.whole
        )
        dense.set_weights([solution.kernel, solution.bias])
        metric = self.task.metric
        for i, step in enumerate(solution.path, start=1):
            values = {"l2": step.l2, "loss": step.loss, metric: step.metric}
            values |= {"val_loss": step.val_loss, f"val_{metric}": step.val_metric}
            row = {name: f"{value:.6g}" for name, value in values.items()}
            seconds = f"{time.monotonic() - start:.3f}" if i == len(solution.path) else ""
            row |= {"phase": phase.name, "epoch": i, "seconds": seconds}
            self.folder.append_log(metric, row)
        best = min(solution.path, key=lambda step: step.val_loss)
        self.checkpoints.offer(best.val_loss, best.val_metric)

    def _fit(self, phase: Phase, suffix: keras.Model, train, val) -> None:
        batch = self.spec.batch_size
        steps, val_steps = math.ceil(len(self.train) / batch), math.ceil(len(self.val) / batch)
        optimizer = make_optimizer(phase, self.spec.optimizer, suffix, steps)
        if self.spec.precision == "float16":  # its small gradients would vanish unscaled
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        suffix.compile(
            optimizer,
            self.task.loss(),
            metrics=[self.task.keras_metric()],
            # XLA makes depthwise convolutions many times slower on a CPU; the JAX backend knows
            # nothing else.
            jit_compile="auto" if keras.backend.backend() == "jax" else False,
        )
        if isinstance(train, Rows):
            seed, balance = self.spec.seed, self.train.balance
            train = FeatureBatches(train, self.train.targets, batch, seed, balance)
            val = FeatureBatches(val, self.val.targets, batch)
        bar = Bar(self.progress, phase.name, phase.epochs, steps, self.checkpoints)
        try:
            suffix.fit(
                train,
                epochs=phase.epochs,
                steps_per_epoch=steps,
                validation_data=val,
                validation_steps=val_steps,
                callbacks=self._callbacks(phase, bar),
                verbose=0,
            )
        finally:
            bar.close()

    def _callbacks(self, phase: Phase, bar: Bar) -> list[keras.callbacks.Callback]:
        options = self.spec.optimizer
        made = [
            self.checkpoints,
            Log(self.folder, phase.name, self.task.metric),
            bar,
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
        return made + self.callbacks
