"""The temperature of a run: what its delivered model's probabilities are divided by, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np

from tlkit.progress import Progress
from tlkit.runfolder.state import PhaseResult
from tlkit.spec.run import RunSpec
from tlkit.tasks.calibration import Calibration, calibrate
from tlkit.tasks.probabilities import ProbabilityTask, numpy_tempered


def calibration_of(
    task: ProbabilityTask,
    spec: RunSpec,
    last: PhaseResult,
    validated: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> Calibration:
    """Return the calibration of a delivered model.

    By what its head's folds gave where the validation part was too small to choose its strength by,
    else by the validation part.

    Args:
        last: the phase that was run last.
        validated: returns targets and outputs of the validation part.
    """
    if spec.head.refit:
        reason = "the head was solved once more on the validation part too (head.refit)"
        return Calibration(**last.calibration) if last.calibration else Calibration(reason=reason)
    targets, outputs = validated()
    if last.calibration:
        found = Calibration(**last.calibration)
    else:
        logits = keras.ops.convert_to_numpy(task.logits(outputs))
        found = calibrate(logits, targets, task, "validation images", spec.seed)
    tempered = numpy_tempered(task, outputs, found.temperature)
    return replace(found, truths=task.truths(targets, tempered))


def say_calibration(found: Calibration, progress: Progress) -> None:
    """Say the temperature and why it is that."""
    progress.say("calibrate", f"temperature {found.temperature:.3g}: {found.reason}")
