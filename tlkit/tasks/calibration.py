"""Temperature scaling (Guo et al. 2017): one number that makes probabilities mean what they say.

Logits are divided by it before the softmax or the sigmoids, so that which answer is the most
probable stays.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import KFold

from tlkit.tasks.linear import LinearTask

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures between which the best one is looked for. Answers that are all right have none: the
colder, the better."""

FOLDS = 5
"""Parts of the answers, each of which says whether a temperature fitted on the others helps."""

FEWEST = 10
"""Answers below which no temperature is fitted: two in each of the folds."""


@dataclass(frozen=True)
class Calibration:
    """What was found out about a model's probabilities on images that it was not trained on.

    Attributes:
        temperature: by which logits are divided; 1: as they are.
        reason: why it is that.
        images: on which it was fitted; 0: on none.
        nll: their mean negative log-likelihood by name, `raw` and `calibrated`.
        truths: of validation images the calibrated probability of the true class, by class and
            ascending; of tasks with one class an image, empty for others.
    """

    temperature: float = 1.0
    reason: str = ""
    images: int = 0
    nll: dict[str, float] = field(default_factory=dict)
    truths: dict[str, list[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what `Calibration(**...)` takes."""
        return asdict(self)


def best_temperature(logits: np.ndarray, targets: np.ndarray, task: LinearTask) -> float:
    """Return the temperature with the lowest loss of the task, within `LOWEST` and `HIGHEST`.

    The loss is a convex function of its inverse (Guo et al. 2017, section 4.2): one minimum.

    Args:
        logits: answers before their activation (n, outputs).
        targets: as the task encodes them.
    """
    found = minimize_scalar(
        lambda log: _loss(math.exp(log), logits, targets, task),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


def _loss(temperature: float, logits: np.ndarray, targets: np.ndarray, task: LinearTask) -> float:
    return task.measure(logits.astype(np.float64) / temperature, targets)[0]


def calibrate(
    logits: np.ndarray, targets: np.ndarray, task: LinearTask, what: str, seed: int = 0
) -> Calibration:
    """Return the best temperature, or 1 where it would not help on answers it was not fitted on.

    That is tried by `FOLDS`-fold cross-validation: with few answers the best temperature may fit
    their noise.

    Args:
        logits, targets, task: as in `best_temperature`; of images that were not trained on.
        what: they are, for the reason.
        seed: of the folds.
    """
    count = len(targets)
    if count < FEWEST:
        return Calibration(reason=f"{count} {what}: fewer than {FEWEST}")
    temperature = best_temperature(logits, targets, task)
    raw, best, *ends = (
        float(_loss(t, logits, targets, task)) for t in (1, temperature, LOWEST, HIGHEST)
    )
    nll = {"raw": raw, "calibrated": raw}
    if min(ends) <= best:
        reason = f"no best temperature within {LOWEST:g} to {HIGHEST:g} on {count:,} {what}"
        return Calibration(1.0, reason, count, nll)
    if _left_out(logits, targets, task, seed) >= raw:
        reason = f"no temperature lowers the loss on {count:,} {what} that it was not fitted on"
        return Calibration(1.0, reason, count, nll)
    nll["calibrated"] = best
    return Calibration(float(temperature), f"fitted on {count:,} {what}", count, nll)


def _left_out(logits: np.ndarray, targets: np.ndarray, task: LinearTask, seed: int) -> float:
    """Return the mean loss of answers with temperatures that were fitted without them."""
    total = 0.0
    for inside, outside in KFold(FOLDS, shuffle=True, random_state=seed).split(logits):
        temperature = best_temperature(logits[inside], targets[inside], task)
        total += len(outside) * _loss(temperature, logits[outside], targets[outside], task)
    return total / len(targets)
