"""Regression: one or several numbers for an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.data.number_targets import NumberTargets
from tlkit.tasks.drawing import draw_scatter
from tlkit.tasks.linear import LinearTask, shortened
from tlkit.tasks.metrics import regression_headline, regression_metrics
from tlkit.tasks.shown import Answers, Figure, Shown
from tlkit.tasks.vector_reports import number_figures, number_parts


@dataclass(frozen=True)
class Regression(LinearTask):
    """Targets and outputs are numbers float32 (n, numbers), in their own units.

    The network answers in standard deviations from the mean of the training targets; a layer
    behind it turns that into the targets' units, inside the graph.

    Attributes:
        mean, scale: of the training targets.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    name: ClassVar[str] = "regression"
    labels: ClassVar[type] = NumberTargets
    called: ClassVar[str] = "number(s)"
    metric: ClassVar[str] = "mae"
    solver: ClassVar[str] = "ridge"
    paired: ClassVar[str] = "mean absolute error"
    answers: ClassVar[str] = "values"
    fields: ClassVar[tuple[str, ...]] = ("values",)
    mixes: ClassVar[frozenset[str]] = frozenset({"mixup"})
    drawing: ClassVar[str] = "scatter.png"

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

    def label_quality(self, raw: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """exp(-distance) in standard deviations, of the number that is farthest off."""
        return np.exp(-np.abs(raw - self.scaled(targets)).max(axis=1))

    def suggestion(self, raw: np.ndarray) -> str:
        values = raw * np.array(self.scale) + np.array(self.mean)
        return "|".join(f"{x:.6g}" for x in values)

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return regression_metrics(targets, outputs, self.outputs)

    def headline(self, metrics: dict[str, Any]) -> str:
        return regression_headline(metrics)

    def draw(
        self, metrics: dict[str, Any], targets: np.ndarray, outputs: np.ndarray, names: list[str],
        path: Path,
    ) -> bool:  # fmt: skip
        draw_scatter(targets, outputs, names, path)
        return True

    def columns(self) -> list[str]:
        return [f"{x}_{name}" for name in self.outputs for x in ("truth", "prediction")]

    def cells(self, truth: Any, row: np.ndarray) -> list[str]:
        return [f"{x:.6g}" for pair in zip(truth, row, strict=True) for x in pair]

    def outputs_in(self, row: Sequence[str]) -> np.ndarray:
        return np.array(row[1::2], np.float32)

    def figures(self, metrics: dict[str, Any], answers: Answers | None) -> list[Figure]:
        if answers is None:
            return super().figures(metrics, answers)
        return number_figures(metrics, self.encode(answers.labels), answers.outputs)

    def image_scores(self, answers: Answers) -> np.ndarray:
        return np.abs(self.encode(answers.labels) - answers.outputs).mean(axis=1)

    def parts(self, metrics: dict[str, Any], answers: Answers | None) -> list[Shown]:
        if answers is None:
            return super().parts(metrics, answers)
        truth, given = self.encode(answers.labels), answers.outputs
        scale = np.maximum(truth.std(axis=0), 1e-12)
        return number_parts(metrics, self.outputs, answers, truth, given, scale)

    def describe(self, target: np.ndarray) -> str:
        pairs = zip(self.outputs, target, strict=True)
        return "\n".join(f"{shortened(name)} {x:.3g}" for name, x in pairs)

    def explained(self, row: np.ndarray) -> int | None:
        return 0 if len(row) == 1 else None

    def decode(self, row: np.ndarray, height: int = 0, width: int = 0) -> dict[str, Any]:
        return {"values": {name: float(x) for name, x in zip(self.outputs, row, strict=True)}}
