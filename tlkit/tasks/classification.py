"""Single-label classification: an image is of one class; softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import log_softmax

from tlkit.data.balance import inverse_frequency
from tlkit.data.targets import ClassTargets
from tlkit.tasks.drawing import LABELLED, draw_confusion
from tlkit.tasks.linear import LinearTask
from tlkit.tasks.metrics import classification_headline, classification_metrics
from tlkit.tasks.shown import Answers, Figure, Shown
from tlkit.tasks.vector_reports import class_figures, class_parts, predicted_classes


class CrossEntropy(keras.losses.Loss):
    """Cross-entropy of class indices (n,), or of shares of the classes (n, classes)."""

    def call(self, truth, answer):
        """Return the loss of each image (n,)."""
        if len(truth.shape) == len(answer.shape):
            return keras.losses.categorical_crossentropy(truth, answer)
        return keras.losses.sparse_categorical_crossentropy(truth, answer)


def right(truth, answer):
    """Return 1 where the most probable class is the true one, of mixed ones the largest share."""
    if len(truth.shape) == len(answer.shape):
        return keras.metrics.categorical_accuracy(truth, answer)
    return keras.metrics.sparse_categorical_accuracy(truth, answer)


class UniformCrossEntropy(keras.losses.Loss):
    """Cross-entropy of answers (n, classes) to equal shares of all classes."""

    def call(self, truth, answer):
        """Return the loss of each image (n,)."""
        shares = keras.ops.ones_like(answer) / answer.shape[-1]
        return keras.losses.categorical_crossentropy(shares, answer)


@dataclass(frozen=True)
class Classification(LinearTask):
    """Targets are class indices int32 (n,), outputs probabilities (n, classes)."""

    name: ClassVar[str] = "classification"
    labels: ClassVar[type] = ClassTargets
    metric: ClassVar[str] = "accuracy"
    solver: ClassVar[str] = "softmax"
    paired: ClassVar[str] = "accuracy"
    mixes: ClassVar[frozenset[str]] = frozenset({"mixup", "cutmix"})
    drawing: ClassVar[str] = "confusion.png"
    hub: ClassVar[str] = "image-classification"

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
        return UniformCrossEntropy()

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

    def label_quality(self, raw: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The probability of the label (self-confidence: Kuan & Mueller 2022, section 3.1)."""
        return np.exp(log_softmax(raw, axis=1))[np.arange(len(targets)), targets]

    def suggestion(self, raw: np.ndarray) -> str:
        return self.outputs[int(raw.argmax())]

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """The accuracy; between equals the lower loss.

        Fitted phases tell it in float32, solved ones in float64: rounded, they can be equal.
        """
        return (round(metric, 6), -loss)

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        return classification_metrics(targets, outputs, self.outputs)

    def headline(self, metrics: dict[str, Any]) -> str:
        return classification_headline(metrics)

    def draw(
        self, metrics: dict[str, Any], targets: np.ndarray, outputs: np.ndarray, names: list[str],
        path: Path,
    ) -> bool:  # fmt: skip
        draw_confusion(metrics["confusion"], names, path)
        return len(names) <= LABELLED

    def agreement(self, expected: np.ndarray, got: np.ndarray) -> float:
        return float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())

    def figures(self, metrics: dict[str, Any], answers: Answers | None) -> list[Figure]:
        if answers is None:
            return super().figures(metrics, answers)
        given = predicted_classes(answers, self.outputs)
        return class_figures(metrics, given, self.encode(answers.labels))

    def image_scores(self, answers: Answers) -> np.ndarray:
        given = predicted_classes(answers, self.outputs)
        return (given == self.encode(answers.labels)).astype(float)

    def parts(self, metrics: dict[str, Any], answers: Answers | None) -> list[Shown]:
        if answers is None:
            return super().parts(metrics, answers)
        given = predicted_classes(answers, self.outputs)
        return class_parts(metrics, self.outputs, answers, self.encode(answers.labels), given)

    def decode(self, row: np.ndarray, height: int = 0, width: int = 0) -> dict[str, Any]:
        best = int(row.argmax())
        return {
            "label": self.outputs[best],
            "score": float(row[best]),
            "probabilities": {x: float(p) for x, p in zip(self.outputs, row, strict=True)},
        }
