"""Time in fitted phases: the speed of a step, images a second, the end of a budget."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

TRIAL_STEPS = 3
"""Steps that are timed, after a first one in which the step is traced."""


def seconds_per_step(model: keras.Model, batches: Iterable[tuple[Any, ...]]) -> float:
    """Return the seconds of a training step of a compiled model; its weights are put back.

    The optimizer is stepped: compile anew before `fit`.

    Args:
        batches: of inputs, targets and, if any, weights; making one counts as well.
    """
    weights, batches = model.get_weights(), itertools.cycle(batches)
    try:
        model.train_on_batch(*next(batches))
        start = time.monotonic()
        for _ in range(TRIAL_STEPS):
            model.train_on_batch(*next(batches))
        return (time.monotonic() - start) / TRIAL_STEPS
    finally:  # out of memory, too: on JAX a step that fails leaves the model without weights
        model.set_weights(weights)


class Speed(keras.callbacks.Callback):
    """Measures the training steps of each epoch, validation left out."""

    def __init__(self, examples: int):
        super().__init__()
        self._examples, self._seconds, self._start = examples, [], 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stop it: an epoch's validation begins when its steps are done."""
        self._seconds.append(time.monotonic() - self._start)

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs; the first, in which the step is traced, counts if it is alone."""
        seconds = self._seconds[1:] or self._seconds
        return round(self._examples / float(np.median(seconds)), 1) if seconds else None


class Deadline(keras.callbacks.Callback):
    """Ends the training after the step in which the time is up; a last validation follows.

    Attributes:
        stopped: whether it did.
    """

    def __init__(self, deadline: float):
        super().__init__()
        self._deadline, self.stopped = deadline, False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        if time.monotonic() > self._deadline:
            self.model.stop_training = self.stopped = True
