"""Callbacks of the fitted phases: checkpoints, log, progress."""

from __future__ import annotations

import math
import time
from typing import Any

import keras
import numpy as np

from tlkit.heads.task import Task
from tlkit.progress import Progress
from tlkit.training.runfolder import RunFolder
from tlkit.training.schedule import peak_rate

WRITE_EVERY = 20.0
"""Seconds between two checkpoints on disk. A head's epoch on kept features takes milliseconds,
saving a model up to a second: in between, the best weights are held in memory."""


class Checkpoints(keras.callbacks.Callback):
    """Holds the best weights by validation across phases, and writes `best`, `last` and the state.

    What is better, the task says.
    Keras's own callbacks forget their best at each `fit`, or keep it in a way that blocks the
    next phase; this one belongs to the run.
    """

    def __init__(self, delivered: keras.Model, task: Task, folder: RunFolder):
        super().__init__()
        self.delivered, self.task, self.folder = delivered, task, folder
        self.best: dict[str, float] | None = None
        self.improved = False
        self.finished: list[dict[str, Any]] = []
        self._best: list[np.ndarray] = []
        self._written = time.monotonic()
        self._unwritten = False

    def offer(self, loss: float, metric: float) -> bool:
        """Keep the delivered model's present weights if they are the best yet by validation."""
        score = self.task.score
        if not math.isfinite(loss):
            self.improved = False
            return False
        self.improved = self.best is None or score(loss, metric) > score(*self.best.values())
        if self.improved:
            self.best, self._unwritten = {"loss": loss, self.task.metric: metric}, True
            self._best = self.delivered.get_weights()
        return self.improved

    def end_phase(self) -> None:
        """Put the best weights into the model, for the next phase to start from, and write."""
        self._restore()
        self._write_best()
        self.folder.copy(self.folder.best, self.folder.last)
        self._write_state()

    def write(self) -> None:
        """Write both checkpoints and `state.json`, in the middle of a phase."""
        try:
            present = self.delivered.get_weights()
        except (RuntimeError, ValueError, AttributeError):
            present = None  # JAX holds them in the training step, from which an interrupt cut them
        self._restore()
        self._write_best()
        self._write_state()
        if present is not None:
            self.delivered.set_weights(present)
            self.folder.save_model(self.delivered, self.folder.last)

    def _restore(self) -> None:
        if self._best:
            self.delivered.set_weights(self._best)

    def _write_best(self) -> None:
        if self._unwritten or not self.folder.best.exists():
            self.folder.save_model(self.delivered, self.folder.best)
            self._unwritten = False

    def _write_state(self) -> None:
        self.folder.write_json("state.json", {"finished": self.finished, "val": self.best})
        self._written = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, and write when the last write is some time ago."""
        self.offer(logs["val_loss"], logs[f"val_{self.task.metric}"])
        if time.monotonic() - self._written > WRITE_EVERY:
            self.write()


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
        names = ("loss", self._metric, "val_loss", f"val_{self._metric}")
        self._folder.append_log(
            self._metric,
            {
                "phase": self._phase,
                "epoch": epoch + 1,
                **{name: f"{logs[name]:.6g}" for name in names},
                "learning_rate": f"{peak_rate(self.model.optimizer):.6g}",
                "seconds": f"{time.monotonic() - self._start:.3f}",
            },
        )


class Bar(keras.callbacks.Callback):
    """Shows the phase's steps as one bar, with the epoch and its validation metric."""

    def __init__(self, progress: Progress, phase: str, epochs: int, steps: int, best: Checkpoints):
        super().__init__()
        self._context = progress.bar(phase, "fitting", epochs * steps)
        self._epochs, self._best = epochs, best
        self._advance = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the bar."""
        self._advance = self._context.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance by a step."""
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch's result."""
        mark = "  best" if self._best.improved else ""
        metric = self._best.task.metric
        value = f"validation {metric} {logs[f'val_{metric}']:.3f}"
        note = f"epoch {epoch + 1}/{self._epochs}  {value}{mark}"
        self._advance(0, note=note)

    def close(self) -> None:
        """Close the bar; called by the trainer also after an interruption."""
        if self._advance is not None:
            self._context.__exit__(None, None, None)
            self._advance = None
