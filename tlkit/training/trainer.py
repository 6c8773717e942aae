"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras

from tlkit.data.prepare import Examples
from tlkit.errors import TrainingError
from tlkit.freezing import apply_plan
from tlkit.heads.task import Task
from tlkit.heads.top import PREDICTIONS
from tlkit.progress import Progress
from tlkit.spec import RunSpec
from tlkit.training.cache import Rows
from tlkit.training.callbacks import Bar, Checkpoints, Log, Resumption
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
from tlkit.training.state import State, assign, values_of


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
    """Trains `model` by `plan`; the best weights by validation are in it at the end.

    Args:
        state: of the run, where it was stopped; it goes on there.
    """

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
        state: State | None = None,
    ):
        self.model, self.task, self.spec = model, task, spec
        self.train, self.val = train, val
        limit = int(spec.cache_size * 2**30)
        self.store = FeatureStore(model, cache, limit, len(train) + len(val), progress)
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        # Random generators of layers (dropout): each phase begins with them as they are now.
        weights = {id(variable) for variable in model.weights}
        self._generators = [v for v in model.variables if id(v) not in weights]
        self._seeds = values_of(self._generators)
        self.checkpoints = Checkpoints(model, task, folder, state or State())

    def run(self, plan: TrainPlan) -> list[PhaseResult]:
        """Run the phases that are not finished; each starts from the best weights so far."""
        self.folder.keep_log(self.checkpoints.state.log_rows)
        try:
            for i in range(len(self.checkpoints.state.finished), len(plan.phases)):
                result = self._run_phase(plan.phases[i], plan.phases[i + 1 :])
                self.checkpoints.end_phase(asdict(result))
        except KeyboardInterrupt:
            self.checkpoints.write()
            raise
        return [PhaseResult(**result) for result in self.checkpoints.state.finished]

    def _run_phase(self, phase: Phase, later: Sequence[Phase]) -> PhaseResult:
        start = self.checkpoints.begin_phase()
        assign(self._generators, self._seeds)
        apply_plan(self.model, phase.freeze)
        cut = cut_of(self.model, phase.freeze)
        prefix, suffix = split_at(self.model, cut)
        # Solving needs all features at once: they are pooled, hence small enough for memory.
        kept = cut is not None and (
            phase.method == "solve" or (not phase.augment and self.store.keeps(cut))
        )
        prefix_start = time.monotonic()
        if kept:
            cuts = [*self._cuts_below(cut, later), cut]
            train, val = (
                self.store.rows(cuts, part, what)
                for part, what in ((self.train, "training"), (self.val, "validation"))
            )
        else:
            train, val = self._streams(phase, prefix)
        prefix_seconds = time.monotonic() - prefix_start
        if phase.method == "solve":
            self._solve(phase, train, val)
        elif not self.checkpoints.state.over and self.checkpoints.state.epoch < phase.epochs:
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

    def _streams(self, phase: Phase, prefix: keras.Model | None):
        """Return the batches of all epochs to come, for a phase whose features are not kept."""
        epochs = range(self.checkpoints.state.epoch, phase.epochs)
        train = self.train.stream(phase.augment, epochs)
        val = self.val.pictures(range(len(self.val)))
        if prefix is None:
            return train, val
        return streamed(prefix, train), streamed(prefix, val)

    def _solve(self, phase: Phase, train: Rows, val: Rows) -> None:
        start = time.monotonic()
        dense = self.model.get_layer(PREDICTIONS)
        solution = solve(train.take(), self.train.targets, val.take(), self.val.targets, self.task)
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
            epochs = range(self.checkpoints.state.epoch, phase.epochs)
            train = FeatureBatches(train, self.train.targets, batch, self.spec.seed, epochs)
            val = FeatureBatches(val, self.val.targets, batch)
        state = self.checkpoints.state
        optimizer.build(suffix.trainable_variables)  # or the first state would lack its variables
        if state.variables:
            assign(suffix.variables, state.variables)
            assign(optimizer.variables, state.optimizer)
        bar = Bar(self.progress, phase.name, phase.epochs, steps, self.checkpoints)
        try:
            suffix.fit(
                train,
                initial_epoch=state.epoch,
                epochs=phase.epochs,
                shuffle=False,  # the batches come shuffled, as they do in a resumed run
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
        own = [
            self.checkpoints,
            Log(self.folder, phase.name, self.task.metric),
            bar,
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.TensorBoard(self.folder.tensorboard / phase.name, write_graph=False),
        ]
        made = list(own)
        if phase.schedule == "plateau":
            made.append(
                keras.callbacks.ReduceLROnPlateau(
                    "val_loss", options.plateau_factor, options.plateau_patience
                )
            )
        if options.patience:
            made.append(keras.callbacks.EarlyStopping("val_loss", patience=options.patience))
        counting = made[len(own) :]
        made += self.callbacks
        return [*made, Resumption(self.checkpoints, phase.epochs, counting)]
