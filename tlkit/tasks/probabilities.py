"""Tasks that answer with probabilities: their logits, a temperature, and how well they are
calibrated."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import keras
import numpy as np

from tlkit.tasks.linear import LinearTask
from tlkit.tasks.shown import Reliability, reliability

TINY = float(np.finfo(np.float32).tiny)
"""Probabilities below it are held for it, lest their logarithm be infinite."""


@dataclass(frozen=True)
class ProbabilityTask(LinearTask):
    """Outputs are probabilities: a softmax, or sigmoids, of the layer `predictions`.

    Attributes:
        temperature: by which the logits of the outputs have been divided; None: they are as the
            network was trained.
    """

    temperature: float | None = field(default=None, kw_only=True)
    calibrates: ClassVar[bool] = True

    @abstractmethod
    def logits(self, outputs: Any) -> Any:
        """Return the logits of probabilities (n, outputs), in `keras.ops`, but for a number that
        all of an image have in common."""

    @abstractmethod
    def spread(self, logits: Any) -> Any:
        """Return the probabilities of logits (n, outputs), in `keras.ops`."""

    @abstractmethod
    def likelihood(self, targets: np.ndarray, outputs: np.ndarray) -> float:
        """Return the mean negative log-likelihood of outputs; the metric called `loss`."""

    @abstractmethod
    def sureness(self, targets: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each answer, and whether it is right."""

    def temper(self, outputs: Any, temperature: float) -> Any:
        """Return probabilities (n, outputs) whose logits are divided, in `keras.ops`."""
        return self.spread(self.logits(outputs) / temperature)

    def tempered(self, temperature: float) -> Self:
        """Return this task for outputs whose logits are divided by `temperature`."""
        return replace(self, temperature=temperature)

    def truths(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, list[float]]:
        """Return the probability of the true class of images by class, ascending; nothing where an
        image is not of one class."""
        return {}

    def calibration(
        self, targets: np.ndarray, outputs: np.ndarray, temperature: float
    ) -> dict[str, Any]:
        tempered = numpy_tempered(self, outputs, temperature)
        return self._compared(targets, {"raw": outputs, "calibrated": tempered}, temperature)

    def _compared(
        self, targets: np.ndarray, both: dict[str, np.ndarray], temperature: float
    ) -> dict[str, Any]:
        """Return likelihood, expected calibration error and reliability of probabilities as
        trained and with a temperature."""
        shown = {name: self.reliability(targets, p) for name, p in both.items()}
        return {
            "temperature": temperature,
            "nll": {name: self.likelihood(targets, p) for name, p in both.items()},
            "ece": {name: found.error for name, found in shown.items()},
            "reliability": {name: list(map(list, x.bins)) for name, x in shown.items()},
        }

    def reliability(self, targets: np.ndarray, outputs: np.ndarray) -> Reliability:
        """Return how often answers of a probability are right."""
        return reliability(*self.sureness(targets, outputs))

    def with_calibration(
        self, found: dict[str, Any], targets: np.ndarray, outputs: np.ndarray
    ) -> dict[str, Any]:
        """Return metrics `found` of outputs with what their temperature has changed."""
        if self.temperature is None:
            return found
        raw = numpy_tempered(self, outputs, 1 / self.temperature)
        both = {"raw": raw, "calibrated": outputs}
        return {**found, "calibration": self._compared(targets, both, self.temperature)}

    def to_json(self) -> dict[str, Any]:
        told = {} if self.temperature is None else {"temperature": self.temperature}
        return {**super().to_json(), **told}


def numpy_tempered(task: ProbabilityTask, outputs: np.ndarray, temperature: float) -> np.ndarray:
    """Return `ProbabilityTask.temper` of an array, as one; it itself for a temperature of 1."""
    if temperature == 1:
        return outputs
    return keras.ops.convert_to_numpy(task.temper(outputs, temperature))


def compared(metrics: dict[str, Any]) -> str:
    """Return in words what a temperature does to likelihood and calibration error; "": nothing."""
    found = metrics.get("calibration") or {"temperature": 1}
    if found["temperature"] == 1:
        return ""
    words = {"nll": "NLL", "ece": "calibration error"}
    pairs = ((name, found[key]) for key, name in words.items())
    return ", ".join(f"{k} {x['raw']:.4f} -> {x['calibrated']:.4f}" for k, x in pairs)
