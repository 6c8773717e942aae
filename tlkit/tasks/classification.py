"""Single-label classification: an image is of one class; softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import log_softmax

from tlkit.data.balance import inverse_frequency
from tlkit.data.targets import ClassTargets
from tlkit.errors import SpecError, did_you_mean, received
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.decisions import (
    Cutoff,
    Decision,
    Sets,
    choose,
    prediction_sets,
    read_threshold,
)
from tlkit.tasks.drawing import LABELLED, draw_confusion
from tlkit.tasks.metrics import (
    class_likelihood,
    classification_headline,
    classification_metrics,
)
from tlkit.tasks.probabilities import TINY, ProbabilityTask
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
class Classification(ProbabilityTask):
    """Targets are class indices int32 (n,), outputs probabilities (n, classes).

    Attributes:
        cutoff: by which one of two classes is given; None: the most probable is.
        sets: which labels are in the set of an image; None: there are no sets.
    """

    cutoff: Cutoff | None = field(default=None, kw_only=True)
    sets: Sets | None = field(default=None, kw_only=True)
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

    def logits(self, outputs: Any) -> Any:
        return keras.ops.log(keras.ops.maximum(outputs, TINY))

    def spread(self, logits: Any) -> Any:
        return keras.ops.softmax(logits)

    def likelihood(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        return class_likelihood(targets, outputs)

    def sureness(self, targets: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return outputs.max(axis=1).astype(np.float64), outputs.argmax(axis=1) == targets

    def truths(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, list[float]]:
        own = outputs[np.arange(len(targets)), targets]
        # Nine digits tell every float32 from its neighbours.
        return {
            name: [float(f"{p:.9g}") for p in np.sort(own[targets == i])]
            for i, name in enumerate(self.outputs)
        }

    def decided(self, asked: Decision, found: Calibration | None) -> Classification:
        task = self
        if asked.coverage is not None:
            truths = [p for own in _truths(found, "coverage").values() for p in own]
            task = replace(task, sets=prediction_sets(truths, asked.coverage))
        if asked.threshold is None and asked.positive is None:
            return task
        if self.classes != 2:
            return super().decided(replace(asked, coverage=None), found)
        return replace(task, cutoff=self._cutoff(asked, found))

    def _cutoff(self, asked: Decision, found: Calibration | None) -> Cutoff:
        """Return the threshold of the one of two classes; the second unless another is named."""
        positive, names = asked.positive, self.outputs
        if asked.threshold is None:
            raise SpecError(
                "positive: has no effect without a threshold. Allowed: with one, or left out. "
                f"Received: {received(positive)}"
            )
        threshold = read_threshold(asked.threshold)
        if positive is not None and positive not in names:
            raise SpecError(
                f"positive: is no class.{did_you_mean(positive, names)} Allowed: "
                f"{', '.join(names)}. Received: {received(positive)}"
            )
        at = 1 if positive is None else names.index(positive)
        guessed = " (the second class; --positive names another)" if positive is None else ""
        if not threshold.chosen:
            return Cutoff(at, threshold.value, "as asked for" + guessed)
        truths = _truths(found, "threshold")
        own, other = (np.array(truths[names[i]], np.float32) for i in (at, 1 - at))
        p = np.concatenate([own, 1 - other])
        start, reason = choose(threshold, np.arange(len(p)) < len(own), p)
        return Cutoff(at, start, reason + guessed)

    def said(self) -> list[tuple[str, str]]:
        lines = []
        if self.cutoff is not None:
            name, start = self.outputs[self.cutoff.positive], self.cutoff.start
            lines.append(("threshold", f"{name} from {start:.4g} on: {self.cutoff.reason}"))
        if self.sets is not None:
            text = (
                f"the most probable label and all from {self.sets.start:.4g} on; the true one is "
                f"among them for at least {self.sets.coverage:.4g} of images like the "
                f"{self.sets.images:,} of validation"
            )
            lines.append(("sets", text))
        return lines

    def given(self, outputs: np.ndarray) -> np.ndarray:
        """Return the class of each image (n,): the most probable, or by `cutoff`."""
        if self.cutoff is None:
            return outputs.argmax(axis=1)
        at = self.cutoff.positive
        return np.where(outputs[:, at] >= np.float32(self.cutoff.start), at, 1 - at)

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        given = self.given(outputs)
        found = classification_metrics(targets, outputs, self.outputs, given)
        if self.cutoff is not None:
            name = self.outputs[self.cutoff.positive]
            own = {"positive": name, "from": self.cutoff.start, "chosen": self.cutoff.reason}
            found["threshold"] = own
        if self.sets is not None:
            members = self.sets.members(outputs)
            found["sets"] = {
                "coverage": self.sets.coverage,
                "measured": float(members[np.arange(len(targets)), targets].mean()),
                "mean_size": float(members.sum(axis=1).mean()),
                "from": self.sets.start,
                "validation_images": self.sets.images,
            }
        return self.with_calibration(found, targets, outputs)

    def headline(self, metrics: dict[str, Any]) -> str:
        return classification_headline(metrics)

    def draw(
        self, metrics: dict[str, Any], targets: np.ndarray, outputs: np.ndarray, names: list[str],
        path: Path,
    ) -> bool:  # fmt: skip
        draw_confusion(metrics["confusion"], names, path)
        return len(names) <= LABELLED

    def agreement(self, expected: np.ndarray, got: np.ndarray) -> float:
        return float((self.given(expected) == self.given(got)).mean())

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
        given = int(self.given(row[None])[0])
        decoded = {
            "label": self.outputs[given],
            "score": float(row[given]),
            "probabilities": {x: float(p) for x, p in zip(self.outputs, row, strict=True)},
        }
        if self.sets is not None:
            members = np.flatnonzero(self.sets.members(row[None])[0])
            ordered = sorted(members, key=lambda i: -row[i])
            decoded["set"] = [self.outputs[i] for i in ordered]
        return decoded


def _truths(found: Calibration | None, option: str) -> dict[str, list[float]]:
    """Return what a run kept of its answers to validation images.

    Raises:
        SpecError: nothing.
    """
    if found is None or not found.truths:
        raise SpecError(
            f"{option}: is found by answers to validation images that the model was not trained "
            "on, and the run has none: it is unfinished, of an earlier version, or head.refit took "
            f"them. Allowed: another run{', or a number' if option == 'threshold' else ''}"
        )
    return found.truths
