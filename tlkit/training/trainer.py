"""Runs the phases of a plan one after the other; knows no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import keras
import numpy as np

from tlkit.freezing import apply_plan
from tlkit.heads.classification import PREDICTIONS, loss, metrics
from tlkit.progress import Progress
from tlkit.spec import RunSpec
from tlkit.training.callbacks import Bar, Checkpoints, Log
from tlkit.training.phases import Phase, TrainPlan
from tlkit.training.prefix import (
    FeatureBatches,
    cut_tensor,
    extract,
    feature_bytes,
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


@dataclass(frozen=True)
class Examples:
    """One part of the data as the trainer sees it.

    Attributes:
        count: number of examples.
        batches: makes the pipeline; arguments: shuffle, augment.
    """

    count: int
    batches: Callable[[bool, bool], Iterable]


class Trainer:
    """Trains `model` by `plan`; the best weights by validation are in it at the end."""

    def __init__(
        self,
        model: keras.Model,
        spec: RunSpec,
        train: Examples,
        val: Examples,
        folder: RunFolder,
        progress: Progress,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self.model, self.spec, self.train, self.val = model, spec, train, val
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        self.checkpoints = Checkpoints(model, folder)

    def run(self, plan: TrainPlan, finished: Sequence[PhaseResult] = ()) -> list[PhaseResult]:
        """Run the phases that are not `finished`; each starts from the best weights so far."""
        results = list(finished)
        try:
            for phase in plan.phases[len(results) :]:
                results.append(self._run_phase(phase))
                self.checkpoints.restore()
                self.checkpoints.write()
                self.folder.write_json(
                    "state.json",
                    {"finished": [asdict(r) for r in results], "score": self.checkpoints.score},
                )
        except KeyboardInterrupt:
            self.checkpoints.write()
            raise
        return results

    def _run_phase(self, phase: Phase) -> PhaseResult:
        start = time.monotonic()
        apply_plan(self.model, phase.freeze)
        prefix, suffix = split_at(self.model, cut_tensor(self.model, phase.freeze))
        prefix_start = time.monotonic()
        train, val, cached = self._inputs(phase, prefix)
        prefix_seconds = time.monotonic() - prefix_start
        (self._solve if phase.method == "solve" else self._fit)(phase, suffix, train, val)
        accuracy = self.checkpoints.score[0]
        self.progress.say(phase.name, f"validation {accuracy:.3f} is the best so far")
        return PhaseResult(
            phase.name,
            sum(math.prod(v.shape) for v in self.model.trainable_variables),
            round(time.monotonic() - start - prefix_seconds, 3),
            round(prefix_seconds, 3),
            accuracy,
            cached,
        )

    def _inputs(self, phase: Phase, prefix: keras.Model | None):
        """Return what the suffix is trained and validated on, and whether features were kept."""
        if prefix is None:
            return self.train.batches(True, phase.augment), self.val.batches(False, False), False
        room = self.spec.feature_memory * 2**30
        must = phase.method == "solve"  # pooled features are small, and solving needs all of them
        keep_val = must or feature_bytes(prefix, self.val.count) <= room
        if keep_val:
            room -= feature_bytes(prefix, self.val.count)
        keep = must or (not phase.augment and feature_bytes(prefix, self.train.count) <= room)
        train = (
            self._kept(prefix, self.train, "training")
            if keep
            else (streamed(prefix, self.train.batches(True, phase.augment)))
        )
        val = (
            self._kept(prefix, self.val, "validation")
            if keep_val
            else (streamed(prefix, self.val.batches(False, False)))
        )
        if not keep and not phase.augment:
            self.progress.say("prefix", "features do not fit feature_memory: computed each epoch")
        return train, val, keep

    def _kept(
        self, prefix: keras.Model, part: Examples, what: str
    ) -> tuple[np.ndarray, np.ndarray]:
        return extract(prefix, part.batches(False, False), part.count, self.progress, what)

    def _solve(self, phase: Phase, suffix: keras.Model, train, val) -> None:
        start = time.monotonic()
        dense = self.model.get_layer(PREDICTIONS)
        solution = solve(*train, *val, dense.units)
        dense.set_weights([solution.kernel, solution.bias])
        for i, step in enumerate(solution.path, start=1):
            row = {name: f"{value:.6g}" for name, value in asdict(step).items()}
            seconds = f"{time.monotonic() - start:.3f}" if i == len(solution.path) else ""
            self.folder.append_log({"phase": phase.name, "epoch": i, **row, "seconds": seconds})
        best = min(solution.path, key=lambda step: step.val_loss)
        self.checkpoints.offer(best.val_accuracy, best.val_loss)

    def _fit(self, phase: Phase, suffix: keras.Model, train, val) -> None:
        batch = self.spec.batch_size
        steps, val_steps = math.ceil(self.train.count / batch), math.ceil(self.val.count / batch)
        suffix.compile(
            make_optimizer(phase, self.spec.optimizer, suffix, steps),
            loss(),
            metrics=metrics(),
            # XLA makes depthwise convolutions many times slower on a CPU; the JAX backend knows
            # nothing else.
            jit_compile="auto" if keras.backend.backend() == "jax" else False,
        )
        if isinstance(train, tuple):
            train = FeatureBatches(*train, batch, self.spec.seed)
        if isinstance(val, tuple):
            val = FeatureBatches(*val, batch)
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
            Log(self.folder, phase.name),
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
