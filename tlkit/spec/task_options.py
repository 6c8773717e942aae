"""What options mean for each task: how it reads a table, and what it has no use for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskOptions:
    """What of the options holds for a task.

    Attributes:
        joined: several labels may stand in one column of a table, with a separator; an empty cell
            says that the image has none of them.
        binary: columns of targets hold 0 and 1, which may be uncertain.
        columns: of targets, the least number there may be.
        fitted: the head is fitted by gradient steps, never solved.
        masks: labels are masks, and what answers is a decoder.
        boxes: a box is answered beside the class.
        batch_size: unless one is asked for.
        refused: why an option has no use, what is allowed of it instead, by its name.
    """

    joined: bool = False
    binary: bool = True
    columns: int = 1
    fitted: bool = False
    masks: bool = False
    boxes: bool = False
    batch_size: int = 32
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)


TASK_OPTIONS = {
    "classification": TaskOptions(columns=2),
    "multilabel": TaskOptions(
        joined=True,
        refused={
            "head.refit": ("the thresholds of labels are chosen on the validation part", "false"),
        },
    ),
    "regression": TaskOptions(
        binary=False,
        refused={
            "optimizer.label_smoothing": ("numbers are no labels", "0"),
            "rare": ("numbers have no classes that could be rare", "error"),
            "cutmix": ("a part of an image does not have its part of a number", "0, or mixup"),
            "balance": ("numbers have no classes to balance", "none"),
        },
    ),
    "segmentation": TaskOptions(
        fitted=True,
        masks=True,
        batch_size=8,  # an image is some thousand examples; more steps count for more
        refused={
            "head.pooling": ("a decoder answers for places, nothing is pooled", "avg"),
            "head.strength": ("the decoder is fitted, not solved", "auto"),
            "rare": ("an image has many classes; none is dropped", "error"),
        },
    ),
    "localisation": TaskOptions(
        binary=False,
        boxes=True,
        refused={"table.targets": ("a box is in the columns x1, y1, x2 and y2", "left out")},
    ),
}
"""Of each task, by its name."""


def options_of(task: str) -> TaskOptions:
    """Return what options mean for a task; one that is not known has no rules of its own."""
    return TASK_OPTIONS.get(task, TaskOptions())
