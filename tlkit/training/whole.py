"""The metric of a validation part that is no mean over its batches, such as average precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tlkit.tasks.task import Task


class WholePart(keras.callbacks.Callback):
    """Measures the whole validation part after each epoch, before all that goes by it.

    Args:
        batches: returns inputs and targets of the part, each image once.
    """

    def __init__(self, task: Task, batches: Callable[[], Iterable[tuple[Any, ...]]]):
        super().__init__()
        self._task, self._batches = task, batches

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the metric to what Keras tells of the epoch."""
        logs[f"val_{self._task.metric}"] = whole_metric(self._task, self.model, self._batches())


def whole_metric(task: Task, model: keras.Model, batches: Iterable[tuple[Any, ...]]) -> float:
    """Return `Task.whole_metric` of a model's answers."""
    pairs = ((own, model.predict_on_batch(inputs)) for inputs, own, *_ in batches)
    return task.whole_metric((np.asarray(own), np.asarray(row, np.float32)) for own, row in pairs)
