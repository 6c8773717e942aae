"""Single-label classification: a picture is of one class; softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import log_softmax

from tlkit.data.feed.balance import inverse_frequency
from tlkit.tasks.metrics import classification_metrics
from tlkit.tasks.task import Task


class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of class indices (n,), or of shares of the classes (n, classes)."""

    def call(self, truth, answer):
        """Return the loss of each picture (n,)."""
        if len(truth.shape) == len(answer.shape):
            return keras.losses.categorical_crossentropy(truth, answer)
        return keras.losses.sparse_categorical_crossentropy(truth, answer)


def right(truth, answer):
    """Return 1 where the most probable class is the true one, of mixed ones the largest share."""
    if len(truth.shape) == len(answer.shape):
        return keras.metrics.categorical_accuracy(truth, answer)
    return keras.metrics.sparse_categorical_accuracy(truth, answer)


class Uninformed(keras.losses.Loss):
    """Cross-entropy of answers (n, classes) to equal shares of all classes."""

    def call(self, truth, answer):
        """Return the loss of each picture (n,)."""
        shares = keras.ops.ones_like(answer) / answer.shape[-1]
        return keras.losses.categorical_crossentropy(shares, answer)


@dataclass(frozen=True)
class Classification(Task):
    """Targets are class indices int32 (n,), outputs probabilities (n, classes)."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[str] = "accuracy"
    solver: ClassVar[str] = "softmax"
    figure: ClassVar[str] = "confusion"

    @property
    def classes(self) -> int:
        return len(self.outputs)

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        index = {label: i for i, label in enumerate(self.outputs)}
        return np.array([index[label] for label in labels], np.int32)

    def top(self, x: keras.KerasTensor, dense: dict[str, Any]) -> keras.KerasTensor:
        return keras.layers.Dense(len(self.outputs), activation="softmax", **dense)(x)

    def bias(self, targets: np.ndarray) -> np.ndarray:
        # One example more of each class: a class without any would get minus infinity.
        counts = np.bincount(targets, minlength=len(self.outputs)) + 1
        return np.log(counts / counts.sum())

    def loss(self) -> keras.losses.Loss:
        return CrossEntropy(name="loss")

    def uninformed_loss(self) -> keras.losses.Loss:
        """Return the loss against equal shares of all classes, whatever the truth is."""
        return Uninformed()

    def keras_metric(self) -> keras.metrics.Metric:
        return keras.metrics.MeanMetricWrapper(right, name=self.metric)

    def soften(self, targets: np.ndarray) -> np.ndarray:
        return self.scaled(targets)

    def weights(self, targets: np.ndarray) -> np.ndarray:
        return inverse_frequency(np.bincount(targets, minlength=len(self.outputs)))[targets]

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        return np.eye(len(self.outputs), dtype=np.float32)[targets]

    def measure(self, raw: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        own = log_softmax(raw, axis=1)[np.arange(len(targets)), targets]
        return -float(own.mean()), float((raw.argmax(axis=1) == targets).mean())

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """The accuracy; between equals the lower loss.

        Fitted phases tell it in float32, solved ones in float64: rounded, they can be equal.
        """
        return (round(metric, 6), -loss)

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return classification_metrics(targets, outputs, self.outputs)

    def decode(self, row: np.ndarray) -> dict[str, Any]:
        best = int(row.argmax())
        return {
            "label": self.outputs[best],
            "score": float(row[best]),
            "probabilities": {x: float(p) for x, p in zip(self.outputs, row, strict=True)},
        }
