"""Regression: one or several numbers for a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.tasks.metrics import regression_metrics
from tlkit.tasks.task import Task


@dataclass(frozen=True)
class Regression(Task):
    """Targets and outputs are numbers float32 (n, numbers), in their own units.

    The network answers in standard deviations from the mean of the training targets; a layer
    behind it turns that into the targets' units, inside the graph.

    Attributes:
        mean, scale: of the training targets.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    name: ClassVar[str] = "regression"
    metric: ClassVar[str] = "mae"
    solver: ClassVar[str] = "ridge"
    answers: ClassVar[str] = "values"
    figure: ClassVar[str] = "scatter"

    def fit(self, targets: np.ndarray) -> Regression:
        """Return this task with mean and standard deviation of the training targets."""
        scale = targets.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)  # a constant target needs no scaling
        return replace(
            self,
            mean=tuple(map(float, targets.mean(axis=0))),
            scale=tuple(map(float, scale)),
        )

    def encode(self, labels: Sequence[tuple[float, ...]]) -> np.ndarray:
        return np.array(labels, np.float32)

    def top(self, x: keras.KerasTensor, dense: dict[str, Any]) -> keras.KerasTensor:
        x = keras.layers.Dense(len(self.outputs), **dense)(x)
        units = keras.layers.Rescaling(
            list(self.scale), list(self.mean), dtype="float32", name="units"
        )
        return units(x)

    def bias(self, targets: np.ndarray) -> np.ndarray:
        return np.zeros(len(self.outputs))

    def loss(self) -> Any:
        """Mean squared error in standard deviations, so that no target's unit outweighs others."""
        scale = np.array(self.scale, np.float32)

        def scaled_mean_squared_error(truth, answer):
            error = (keras.ops.cast(truth, "float32") - answer) / scale
            return keras.ops.mean(keras.ops.square(error), axis=-1)

        return scaled_mean_squared_error

    def keras_metric(self) -> keras.metrics.Metric:
        return keras.metrics.MeanAbsoluteError(name=self.metric)

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        return ((targets - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)

    def measure(self, raw: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        error = raw - self.scaled(targets)
        return float(np.square(error).mean()), float(np.abs(error * np.array(self.scale)).mean())

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return regression_metrics(targets, outputs, self.outputs)

    def decode(self, row: np.ndarray) -> dict[str, Any]:
        return {"values": {name: float(x) for name, x in zip(self.outputs, row, strict=True)}}
