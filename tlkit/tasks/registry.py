"""The tasks by name."""

from __future__ import annotations

from typing import Any

from tlkit.data.targets import Targets
from tlkit.errors import SpecError, one_of
from tlkit.spec.run import RunSpec
from tlkit.tasks.classification import Classification
from tlkit.tasks.detection import Detection
from tlkit.tasks.linear import LinearTask
from tlkit.tasks.localisation import Localisation
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.regions import RegionDetection
from tlkit.tasks.regression import Regression
from tlkit.tasks.segmentation import Segmentation
from tlkit.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (Classification, Multilabel, Regression, Localisation, Segmentation, Detection)
}


DETECTORS: dict[str, type[Task]] = {RegionDetection.kind: RegionDetection}
"""By `detector.kind`, the kinds that have a class of their own."""


def lookup(name: str) -> type[Task]:
    """Return the task called `name`.

    Raises:
        SpecError: there is none.
    """
    return one_of(TASKS, name, "task", SpecError)


def check_solvable(spec: RunSpec, command: str) -> None:
    """Check that the head of a run's task is solved on pooled features, for what asks for such.

    Raises:
        SpecError: it is not.
    """
    if not issubclass(lookup(spec.task), LinearTask):
        solved = ", ".join(name for name, task in TASKS.items() if issubclass(task, LinearTask))
        raise SpecError(
            f"task: {command} solves heads on pooled features, and the head of this task is none "
            f"of those. Allowed: {solved}. Received: {spec.task}"
        )


def class_of(spec: RunSpec) -> type[Task]:
    """Return the task of a run before its outputs are known."""
    return DETECTORS.get(spec.detector.kind) or lookup(spec.task)


def targets_of(spec: RunSpec) -> Targets:
    """Return how the labels of a run are read."""
    return lookup(spec.task).labels.of(spec)


def task_of(spec: RunSpec, outputs: tuple[str, ...]) -> Task:
    """Return the task of a run whose model has these outputs."""
    return class_of(spec).of(outputs, spec)


def task_from_json(value: dict[str, Any]) -> Task:
    """Return the task that `Task.to_json` described."""
    options = {name: _frozen(x) for name, x in value.items()}
    name = options.pop("task")
    return (DETECTORS.get(options.get("kind")) or TASKS[name])(**options)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
