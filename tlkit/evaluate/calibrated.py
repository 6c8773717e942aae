"""A model whose probabilities are calibrated, in its graph: by a temperature (Guo et al. 2017)."""

from __future__ import annotations

import keras

from tlkit.errors import SpecError
from tlkit.evaluate.tta import averaging
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.decisions import Decision
from tlkit.tasks.pooled import PREDICTIONS
from tlkit.tasks.task import Task


def calibrated(
    model: keras.Model, task: Task, found: Calibration | None, tta: bool, mirror: bool
) -> keras.Model:
    """Return `model` with the temperature that was found, or with `tta` one that is divided by it
    after the mean over an image and its mirror image: either way the most probable answer stays.

    Without `tta` it is in the weights of the layer `predictions`, whose activation is the last that
    is computed: every format and engine takes it as any other network.

    Args:
        model: as it was trained; its other layers are shared.
        found: None: no temperature.
        tta, mirror: see `averaging`.
    """
    temperature = 1.0 if found is None else found.temperature
    if temperature == 1 or tta:
        model = averaging(model, tta, mirror, task.flip)
        if temperature == 1:
            return model
        return keras.Model(model.input, task.temper(model.output, temperature))
    layer = model.get_layer(PREDICTIONS)
    twin = type(layer).from_config(layer.get_config())
    answers = keras.Model(model.input, twin(layer.input))
    twin.set_weights([weights / temperature for weights in layer.get_weights()])
    return answers


def decided(task: Task, found: Calibration | None, asked: Decision, raw: bool, tta: bool) -> Task:
    """Return a run's task as answers are read that are calibrated, or `raw`, and decided as asked.

    Args:
        task: as it was trained.
        found: what the run found out, also where `raw` is asked for.

    Raises:
        SpecError: `raw` or the decision has no meaning for the task, or cannot be had with it.
    """
    if raw and not task.calibrates:
        raise SpecError(
            f"raw: has no effect on the task {task.name}, whose answers have no temperature. "
            "Allowed: left out. Received: raw"
        )
    other = "raw" if raw else "tta" if tta else ""
    if other and task.calibrates and asked.validated:
        raise SpecError(
            f"{asked.validated[0]}: is chosen by calibrated answers to validation images as they "
            f"are, and {other} gives others. Allowed: one of the two. Received: both"
        )
    if found is not None and not raw:
        task = task.tempered(found.temperature)
    return task.decided(asked, found)
