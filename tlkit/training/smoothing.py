"""Models that are fitted with label smoothing and measured without."""

from __future__ import annotations

from typing import Any

import keras

from tlkit.tasks.task import Task


def smoothed(model: keras.Model, task: Task, share: float) -> keras.Model:
    """Return `model` with `share` of the target spread over all answers in its training loss.

    A cross-entropy is linear in the target: the smoothed one is (1 - share) times the loss plus
    share times the loss against a target that says nothing (`task.uninformed_loss`). Validation
    uses the plain loss, so that its figures compare with those of other phases.

    Returns:
        `model` itself where `share` is 0; else a model of its own on the same layers.
    """
    if not share:
        return model
    plain, uninformed = task.loss(), task.uninformed_loss()

    class Smoothed(keras.Model):
        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
            if not training:
                return loss
            # The difference alone is scaled, so that penalties on weights stay as they are.
            spread = uninformed(y, y_pred, sample_weight) - plain(y, y_pred, sample_weight)
            return loss + share * spread

    return Smoothed(model.input, model.output)
