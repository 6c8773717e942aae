"""What a task has to say: how targets are written, what is minimised, what is measured.

Training, evaluation and export know a task by this alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.data.feed.balance import UNBALANCED, Balance


@dataclass(frozen=True)
class Task(ABC):
    """One kind of question about a picture.

    Attributes:
        outputs: names of the classes, labels or numbers, in the order of the model's outputs.
        name: as in the spec.
        metric: the metric shown beside the loss while training.
        solver: what kind of problem a linear head is: `softmax`, `sigmoid` or `ridge`.
        answers: what a row of the model's output holds: `probabilities` or `values`.
        figure: what an evaluation draws: `confusion`, `labels` or `scatter`.
    """

    outputs: tuple[str, ...]
    name: ClassVar[str]
    metric: ClassVar[str]
    solver: ClassVar[str]
    answers: ClassVar[str] = "probabilities"
    figure: ClassVar[str]

    @property
    def classes(self) -> int:
        """How many classes there are of which an image is of exactly one; 0: it is no such task."""
        return 0

    def fit(self, targets: np.ndarray) -> Task:
        """Return this task with what it has to know of the training targets."""
        return self

    @abstractmethod
    def encode(self, labels: Sequence[Any]) -> np.ndarray:
        """Turn the labels of examples into targets, one row each."""

    @abstractmethod
    def top(self, x: keras.KerasTensor, dense: dict[str, Any]) -> keras.KerasTensor:
        """Put the output layers on pooled features (n, features).

        Args:
            dense: arguments of the layer `predictions`, which holds the weights.
        """

    @abstractmethod
    def bias(self, targets: np.ndarray) -> np.ndarray:
        """Return the bias (outputs,) that answers, without looking, as the targets are spread."""

    def soften(self, targets: np.ndarray) -> np.ndarray:
        """Return targets float32 (n, outputs) that may be mixed; `loss` takes them as well."""
        return targets

    def balance(self, targets: np.ndarray, kind: str) -> Balance:
        """Return what is done about imbalance in training; nothing where there is none.

        Args:
            targets: of the training pictures.
            kind: `none`, `weights` or `sampling`, as in the spec.
        """
        if kind == "none":
            return UNBALANCED
        found = self.weights(targets) if kind == "weights" else self.draws(targets)
        if np.all(found == 1):
            return UNBALANCED
        found = found.astype(np.float32)
        return Balance(weights=found) if kind == "weights" else Balance(draws=found)

    def weights(self, targets: np.ndarray) -> np.ndarray:
        """Return weights on the loss, for each picture or each label of it; 1 without classes."""
        return np.ones(len(targets))

    def draws(self, targets: np.ndarray) -> np.ndarray:
        """Return how often each picture is drawn in an epoch, on average."""
        return self.weights(targets)

    @abstractmethod
    def loss(self) -> Any:
        """Return the loss of fitted phases."""

    @abstractmethod
    def keras_metric(self) -> keras.metrics.Metric:
        """Return the metric of fitted phases, under the name `metric`."""

    @abstractmethod
    def scaled(self, targets: np.ndarray) -> np.ndarray:
        """Return targets as the layer `predictions` sees them."""

    @abstractmethod
    def measure(self, raw: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return loss and metric of the layer `predictions` before its activation."""

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """Return what the best model has the highest of, from validation loss and metric."""
        return (-loss,)

    def settled(self, validation: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Task:
        """Return this task with what it takes from the validation part once the model is trained.

        Args:
            validation: returns targets and the model's outputs (n, outputs); it takes time.
        """
        return self

    @abstractmethod
    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        """Return all metrics of one part of the data, ready for JSON.

        Args:
            targets: as `encode` gives them.
            outputs: of the model (n, outputs).
        """

    @abstractmethod
    def decode(self, row: np.ndarray) -> dict[str, Any]:
        """Turn one row of the model's output into the fields of a prediction."""

    def to_json(self) -> dict[str, Any]:
        """Return what `task_from_json` needs to make this task again for predicting."""
        return {"task": self.name, "outputs": list(self.outputs)}
