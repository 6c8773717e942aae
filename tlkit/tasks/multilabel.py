"""Multi-label classification: an image has any number of labels; a sigmoid for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from scipy.special import expit

from tlkit.data.balance import inverse_frequency
from tlkit.data.targets import LabelsTargets
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.decisions import Decision, common_threshold
from tlkit.tasks.drawing import draw_labels
from tlkit.tasks.metrics import (
    f1_of,
    label_likelihood,
    macro_f1,
    multilabel_headline,
    multilabel_metrics,
)
from tlkit.tasks.probabilities import TINY, ProbabilityTask, numpy_tempered
from tlkit.tasks.shown import Answers, Figure, Shown
from tlkit.tasks.vector_reports import label_figures, label_parts


class BinaryCrossEntropy(keras.losses.Loss):
    """Mean of the binary cross-entropies of all labels; their weights may be (n, labels).

    Keras's own takes the mean over labels first, so that it knows weights of images alone.
    """

    def call(self, truth, answer):
        """Return the loss of each label of each image (n, labels)."""
        return keras.ops.binary_crossentropy(truth, answer)


class UniformCrossEntropy(keras.losses.Loss):
    """Binary cross-entropy of each answer (n, labels) to one half."""

    def call(self, truth, answer):
        """Return the loss of each label of each image (n, labels)."""
        return keras.ops.binary_crossentropy(keras.ops.full_like(answer, 0.5), answer)


class MacroF1(keras.metrics.F1Score):
    """Mean of F1 over the labels that are there or given, as `macro_f1`.

    Keras's own counts a label that is neither as one that was missed.
    """

    def result(self):
        """Return the mean so far; 0 where no label is there or given."""
        occurs = self.true_positives + self.false_positives + self.false_negatives > 0
        occurs = keras.ops.cast(occurs, self.dtype)
        found = keras.ops.sum(super().result() * occurs)  # of each label, without an average
        return found / keras.ops.maximum(keras.ops.sum(occurs), 1)


@dataclass(frozen=True)
class Multilabel(ProbabilityTask):
    """Targets are 0 or 1 float32 (n, labels), outputs probabilities (n, labels).

    Attributes:
        thresholds: the probability from which on a label is given, for each; empty: 0.5.
    """

    thresholds: tuple[float, ...] = ()
    name: ClassVar[str] = "multilabel"
    labels: ClassVar[type] = LabelsTargets
    called: ClassVar[str] = "labels"
    metric: ClassVar[str] = "f1"
    fields: ClassVar[tuple[str, ...]] = ("label", "score", "labels", "probabilities")
    solver: ClassVar[str] = "sigmoid"
    paired: ClassVar[str] = "share of images with all labels right"
    mixes: ClassVar[frozenset[str]] = frozenset({"mixup", "cutmix"})
    drawing: ClassVar[str] = "labels.png"
    hub: ClassVar[str] = "image-classification"

    def encode(self, labels: Sequence[tuple[str, ...]]) -> np.ndarray:
        return np.array([[name in own for name in self.outputs] for own in labels], np.float32)

    def top(self, x: keras.KerasTensor, dense: dict[str, Any]) -> keras.KerasTensor:
        return keras.layers.Dense(len(self.outputs), activation="sigmoid", **dense)(x)

    def bias(self, targets: np.ndarray) -> np.ndarray:
        share = (targets.sum(axis=0) + 1) / (len(targets) + 2)
        return np.log(share / (1 - share))

    def loss(self) -> keras.losses.Loss:
        return BinaryCrossEntropy(name="loss")

    def uninformed_loss(self) -> keras.losses.Loss:
        """Return the loss against a half for each label, whatever the truth is."""
        return UniformCrossEntropy()

    def keras_metric(self) -> keras.metrics.Metric:
        return MacroF1(threshold=0.5, name=self.metric)

    def weights(self, targets: np.ndarray) -> np.ndarray:
        """Weigh "there" against "not there" for each label by itself (n, labels).

        The ratio of the two is not there / there, as `pos_weight` of PyTorch's
        BCEWithLogitsLoss advises; each label's mean is 1. Weights of whole images would not do:
        an image with a rare label mostly lacks other rare ones.
        """
        there = targets.astype(int)
        each = [inverse_frequency(np.bincount(label, minlength=2))[label] for label in there.T]
        return np.stack(each, axis=1)

    def draws(self, targets: np.ndarray) -> np.ndarray:
        """Draw by the rarest label of an image, by its inverse frequency.

        Gupta et al. 2019 (LVIS, repeat factor sampling) take the rarest label likewise. An image
        without labels counts as one of a class of its own.
        """
        bare = 1 - targets.max(axis=1, keepdims=True)
        groups = np.hstack([targets, bare])
        chance = (groups / np.maximum(groups.sum(axis=0), 1)).max(axis=1)
        if np.all(chance == chance[0]):
            return np.ones(len(targets))
        return chance / chance.mean()

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def measure(self, raw: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        loss = np.logaddexp(0, raw) - targets * raw
        return float(loss.mean()), macro_f1(targets, raw > 0)

    def label_quality(self, raw: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The probability of the label, there or not, that agrees least."""
        return expit(np.where(targets > 0, raw, -raw)).min(axis=1)

    def suggestion(self, raw: np.ndarray) -> str:
        return "|".join(n for n, x in zip(self.outputs, raw, strict=True) if x > 0)

    def tuned(self, answered: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Multilabel:
        return self.with_thresholds(*answered())

    def with_thresholds(self, targets: np.ndarray, probabilities: np.ndarray) -> Multilabel:
        """Return this task with the thresholds that give each label its highest F1.

        Candidates lie in the middle between neighbouring probabilities, and 0.5 stays where
        nothing is better: a threshold tuned on few examples should not be odd without gain.
        """
        chosen = []
        for truth, p in zip(targets.T > 0, probabilities.T, strict=True):
            values = np.unique(p)
            candidates = [0.5, *((values[1:] + values[:-1]) / 2)]
            chosen.append(float(max(candidates, key=lambda t, y=truth, q=p: f1_of(y, q >= t))))
        return replace(self, thresholds=tuple(chosen))

    def chosen(self, probabilities: np.ndarray) -> np.ndarray:
        """Return which labels are given, bool (n, labels)."""
        return probabilities >= np.array(self.thresholds or 0.5, np.float32)

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        given = outputs >= np.array(self.thresholds or 0.5, np.float32)
        return {**super().answer(outputs, sizes), "given": given}

    def logits(self, outputs: Any) -> Any:
        p = keras.ops.clip(outputs, TINY, 1 - 2.0**-24)  # the next float32 below 1
        return keras.ops.log(p) - keras.ops.log1p(-p)

    def spread(self, logits: Any) -> Any:
        return keras.ops.sigmoid(logits)

    def likelihood(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        return label_likelihood(targets > 0, outputs)

    def sureness(self, targets: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sure = np.maximum(outputs, 1 - outputs).ravel().astype(np.float64)
        return sure, ((outputs >= 0.5) == (targets > 0)).ravel()

    def tempered(self, temperature: float) -> Multilabel:
        """The thresholds move with the probabilities: the same labels are given."""
        thresholds = np.array(self.thresholds, np.float32)
        moved = tuple(map(float, numpy_tempered(self, thresholds, temperature)))
        return replace(self, temperature=temperature, thresholds=moved)

    def decided(self, asked: Decision, found: Calibration | None) -> Multilabel:
        """A number is the threshold of all labels in place of those chosen by F1."""
        if asked.threshold is None or len(asked.given()) > 1:
            return super().decided(replace(asked, threshold=None), found)
        threshold = common_threshold(asked.threshold, "label", "labels")
        return replace(self, thresholds=(threshold,) * len(self.outputs))

    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        given, thresholds = self.chosen(outputs), self.thresholds or (0.5,) * len(self.outputs)
        found = multilabel_metrics(targets, outputs, given, self.outputs, thresholds)
        return self.with_calibration(found, targets, outputs)

    def headline(self, metrics: dict[str, Any]) -> str:
        return multilabel_headline(metrics)

    def draw(
        self, metrics: dict[str, Any], targets: np.ndarray, outputs: np.ndarray, names: list[str],
        path: Path,
    ) -> bool:  # fmt: skip
        draw_labels(dict(zip(names, metrics["per_class"].values(), strict=True)), path)
        return True

    def figures(self, metrics: dict[str, Any], answers: Answers | None) -> list[Figure]:
        if answers is None:
            return super().figures(metrics, answers)
        return label_figures(metrics, self.encode(answers.labels) > 0, self._given_in(answers))

    def image_scores(self, answers: Answers) -> np.ndarray:
        truth = self.encode(answers.labels) > 0
        return (self._given_in(answers) == truth).all(axis=1).astype(float)

    def parts(self, metrics: dict[str, Any], answers: Answers | None) -> list[Shown]:
        if answers is None:
            return super().parts(metrics, answers)
        truth, given = self.encode(answers.labels) > 0, self._given_in(answers)
        return label_parts(metrics, self.outputs, answers, truth, given)

    def _given_in(self, answers: Answers) -> np.ndarray:
        """Return which labels `predictions.csv` gives, bool (n, labels).

        Its probabilities have six digits: one next to a threshold could fall on the other side.
        """
        given = self.chosen(answers.outputs)
        for own, cell in zip(given, answers.predictions, strict=True):
            named = set(cell.removeprefix("'").split("|"))
            if named <= {*self.outputs, ""}:  # else one has an apostrophe or a bar of its own
                own[:] = [name in named for name in self.outputs]
        return given

    def agreement(self, expected: np.ndarray, got: np.ndarray) -> float:
        """Return the fraction of labels, of all images, that both give or both do not."""
        return float((self.chosen(expected) == self.chosen(got)).mean())

    def decode(self, row: np.ndarray, height: int = 0, width: int = 0) -> dict[str, Any]:
        best = int(row.argmax())
        given = self.chosen(row[None])[0]
        return {
            "label": self.outputs[best],
            "score": float(row[best]),
            "labels": [name for name, yes in zip(self.outputs, given, strict=True) if yes],
            "probabilities": {x: float(p) for x, p in zip(self.outputs, row, strict=True)},
        }

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "thresholds": list(self.thresholds)}
