"""The tasks by name."""

from __future__ import annotations

from typing import Any

from tlkit.tasks.classification import Classification
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.regression import Regression
from tlkit.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Classification, Multilabel, Regression)
}


def task_from_json(value: dict[str, Any]) -> Task:
    """Return the task that `Task.to_json` described."""
    options = {name: tuple(x) for name, x in value.items() if name != "task"}
    return TASKS[value["task"]](**options)
