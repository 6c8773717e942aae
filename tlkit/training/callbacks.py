"""Callbacks of the fitted phases: checkpoints, log, progress."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras

from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import file_digest
from tlkit.runfolder.state import State, assign, counts_of, set_counts, values_of
from tlkit.tasks.task import Task
from tlkit.training.schedule import peak_rate

WRITE_EVERY = 5.0
"""Seconds between two checkpoints on disk, at least. A head's epoch on kept features takes
milliseconds, saving both models and the state a second: in between, the best weights are held in
memory. A run that is killed does these seconds again, and the epoch that it was in."""

WRITE_SHARE = 0.05
"""Share of the time that goes into checkpoints at most, on a slow disk or with a large model."""


class Checkpoints(keras.callbacks.Callback):
    """Holds the best weights by validation across phases, and writes checkpoints and the state.

    What is better, the task says.
    Keras's own callbacks forget their best at each `fit`, or keep it in a way that blocks the
    next phase; this one belongs to the run.

    Ctrl-C may arrive between any two instructions: a new state is made aside and takes the old
    one's place in one assignment.
    """

    def __init__(self, delivered: keras.Model, task: Task, folder: RunFolder, state: State):
        super().__init__()
        self.delivered, self.task, self.folder, self.state = delivered, task, folder, state
        self.improved = False
        self._began = time.monotonic() - state.seconds
        self._phase_began = 0.0
        self._written = time.monotonic()
        self._pause = WRITE_EVERY
        self._unwritten = bool(state.best_weights)
        if state.best_weights:
            self.delivered.set_weights(state.best_weights)

    @property
    def best(self) -> dict[str, float] | None:
        """Validation loss and metric of the best weights; None before the first."""
        return self.state.best

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, those before it was stopped included."""
        return time.monotonic() - self._began

    def offer(self, loss: float, metric: float) -> bool:
        """Keep the delivered model's present weights if they are the best yet by validation."""
        if not math.isfinite(loss):
            self.improved = False
            return False
        self.improved = self.best is None or self.task.score(loss, metric) > self._score(self.best)
        if self.improved:
            best, weights = {"loss": loss, self.task.metric: metric}, self.delivered.get_weights()
            self._unwritten = True
            self.state = replace(self.state, best=best, best_weights=weights)
        return self.improved

    def _score(self, best: dict[str, float]) -> tuple[float, ...]:
        return self.task.score(best["loss"], best[self.task.metric])

    def begin_phase(self) -> float:
        """Return when the phase began, as `time.monotonic` would have said it."""
        self._phase_began = time.monotonic() - self.state.phase_seconds
        return self._phase_began

    def end_phase(self, result: dict[str, Any]) -> None:
        """Put the best weights into the model, for the next phase to start from, and write."""
        rows, digest = self.folder.log_state()
        self.state = State(
            finished=[*self.state.finished, result],
            before=self.state.best,
            best=self.state.best,
            best_weights=self.state.best_weights,
            log_rows=rows,
            log_digest=digest,
            run=self.state.run,
            best_digest=self.state.best_digest,
            batch_size=self.state.batch_size,
        )
        self._restore()
        self._write_best()
        if self.best is not None:
            self.folder.copy(self.folder.best, self.folder.last)
        self._write_state()

    def end(self) -> None:
        """Write the best model if this process has not: in a run resumed at its end it may be
        damaged by now.
        """
        if self._unwritten:
            self.write()

    def write(self) -> None:
        """Write both checkpoints and the state, as they were at the last epoch's end."""
        state = self.state
        if state.variables:
            # On JAX an interrupt within an epoch leaves the model without weights.
            assign(self.model.variables, state.variables)
            self.folder.save_model(self.delivered, self.folder.last)
        self._restore()
        self._write_best()
        self._write_state()
        if state.variables:
            assign(self.model.variables, state.variables)

    def _restore(self) -> None:
        if self.state.best_weights:
            self.delivered.set_weights(self.state.best_weights)

    def _write_best(self) -> None:
        """Write the best model, once there is one, unless the file is that of this very process.

        What was never validated is none.
        """
        if self.best is None:
            self.folder.best.unlink(missing_ok=True)
        elif self._unwritten or not self.folder.best.exists():
            self.folder.save_model(self.delivered, self.folder.best)
            self.state.best_digest = file_digest(self.folder.best)
            self._unwritten = False

    def _write_state(self) -> None:
        self.state.seconds = self.seconds
        self.state.write(self.folder)
        self._written = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the epoch with the best."""
        self.offer(logs["val_loss"], logs[f"val_{self.task.metric}"])

    def take(
        self,
        epoch: int,
        over: bool,
        counting: Sequence[keras.callbacks.Callback],
        fitted: dict[str, float] | None = None,
    ) -> None:
        """Take the state after `epoch` epochs; write it when the last write is some time ago."""
        rows, digest = self.folder.log_state()
        self.state = replace(
            self.state,
            epoch=epoch,
            over=over,
            variables=values_of(self.model.variables),
            optimizer=values_of(self.model.optimizer.variables),
            callbacks=counts_of(counting),
            log_rows=rows,
            log_digest=digest,
            phase_seconds=time.monotonic() - self._phase_began,
            fitted=fitted,
        )
        if epoch and time.monotonic() - self._written > self._pause:
            start = time.monotonic()
            self.write()
            self._pause = max(WRITE_EVERY, (time.monotonic() - start) / WRITE_SHARE)


class Resumption(keras.callbacks.Callback):
    """Puts the state of a stopped phase back where it belongs, and takes it after each epoch.

    It comes after all callbacks that change something: those that count, and the user's.

    Args:
        fitted: see `State`.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        epochs: int,
        counting: Sequence[keras.callbacks.Callback],
        fitted: dict[str, float],
    ):
        super().__init__()
        self._checkpoints, self._epochs, self._counting = checkpoints, epochs, list(counting)
        self._fitted = fitted

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put back what the callbacks have just forgotten."""
        state = self._checkpoints.state
        if state.variables:
            set_counts(self._counting, state.callbacks)
        else:
            self._checkpoints.take(0, False, self._counting, self._fitted)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take the state."""
        over = self.model.stop_training or epoch + 1 == self._epochs
        self._checkpoints.take(epoch + 1, over, self._counting, self._fitted)


class WholeEpochs(keras.callbacks.Callback):
    """Ends the last of the calls with several steps (`steps_per_execution`) where the epoch ends.

    Where they do not come out even, Keras would take the next epoch's first batches as well.
    """

    def __init__(self, steps: int, val_steps: int):
        super().__init__()
        self._steps, self._val_steps, self._left, self._most = steps, val_steps, 0, 1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Come between Keras and its compiled functions."""
        self._most = self.model.steps_per_execution
        self.model.make_test_function()
        self.model.train_function = self._ended(self.model.train_function)
        self.model.test_function = self._ended(self.model.test_function)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps left from `batch` on."""
        self._left = self._steps - batch

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count those of the validation."""
        self._left = self._val_steps - batch

    def _ended(self, function: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            *state, batches = arguments  # JAX passes a state first
            if self._left < self._most:
                batches = itertools.islice(batches, self._left)
            return function(*state, batches)

        return call


class Log(keras.callbacks.Callback):
    """Adds a row to `log.csv` after each epoch."""

    def __init__(self, folder: RunFolder, phase: str, metric: str):
        super().__init__()
        self._folder, self._phase, self._metric = folder, phase, metric
        self._start = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the row."""
        names = ("loss", self._metric, "val_loss", f"val_{self._metric}")  # may be twice the loss
        self._folder.append_log(
            self._metric,
            {
                "phase": self._phase,
                "epoch": epoch + 1,
                **{name: f"{logs[name]:.6g}" for name in names if name in logs},
                "learning_rate": f"{peak_rate(self.model.optimizer):.6g}",
                "seconds": f"{time.monotonic() - self._start:.3f}",
            },
        )


class Bar(keras.callbacks.Callback):
    """Shows the phase's steps as one bar, with the epoch and its validation metric."""

    def __init__(self, progress: Progress, phase: str, epochs: int, steps: int, best: Checkpoints):
        super().__init__()
        self._context = progress.bar(phase, "fitting", epochs * steps)
        self._progress, self._phase = progress, phase
        self._epochs, self._steps, self._best = epochs, steps, best
        self._advance, self._done, self._began = None, 0, 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the bar."""
        self._advance = self._context.__enter__()
        self._advance(self._best.state.epoch * self._steps)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count its steps and its seconds from the start."""
        self._done, self._began = 0, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance to `batch`, the last one of a call; of several, Keras counts beyond the epoch."""
        done = min(batch + 1, self._steps)
        self._advance(done - self._done)
        self._done = done

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch's result."""
        mark = "  best" if self._best.improved else ""
        metric = self._best.task.metric
        value = f"validation {metric} {logs[f'val_{metric}']:.3f}"
        note = f"epoch {epoch + 1}/{self._epochs}  {value}{mark}"
        self._advance(0, note=note)
        self._say_epoch(note, logs)

    def _say_epoch(self, note: str, logs: dict[str, Any]) -> None:
        """Print a line of the epoch: in files, which show no bar, and where details are wanted."""
        losses = f"loss {logs['loss']:.4g}, validation loss {logs['val_loss']:.4g}"
        rate, took = peak_rate(self.model.optimizer), time.monotonic() - self._began
        self._progress.detail(self._phase, f"{note}  {losses}, rate {rate:.3g}, {took:.1f} s")
        if not self._progress.live and not self._progress.verbose:
            self._progress.say(self._phase, f"{note}  {took:.1f} s")

    def close(self) -> None:
        """Close the bar; called by the trainer also after an interruption."""
        if self._advance is not None:
            self._context.__exit__(None, None, None)
            self._advance = None
