"""What options mean for each task: how it reads a table, and what it has no use for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
        detects: objects are found, and what answers is a detector.
        boxes: a box is answered beside the class.
        frozen: the head is all that is trained, and it is solved, whatever else is asked for.
        image_size: unless one is asked for, in pixels; 0: the backbone's own.
        batch_size, patience: unless one is asked for.
        refused: why an option has no use, what is allowed of it instead, by its name. A test holds
            it against what the class of the task can do.
    """

    joined: bool = False
    binary: bool = True
    columns: int = 1
    fitted: bool = False
    masks: bool = False
    detects: bool = False
    boxes: bool = False
    frozen: bool = False
    image_size: int = 0
    batch_size: int = 32
    patience: int | None = None
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        """Whether an image has many answers, each at its place, from maps at several strides."""
        return self.masks or self.detects


FITTED_HEAD = {
    "head.strength": ("the head is fitted, not solved", "auto"),
    "head.solver": ("the head is fitted, not solved", "auto, fit"),
    "head.refit": ("the head is fitted, not solved", "false"),
    "head.hidden": ("the head has layers of its own", "[]"),
    "budget": ("a budget begins with a solved head", "left out"),
}
"""What has no use for a task whose head is never solved."""

NO_MIXED_LABELS = {
    "mixup": ("images are mixed for labels of whole images alone", "0"),
    "cutmix": ("images are mixed for labels of whole images alone", "0"),
    "optimizer.label_smoothing": ("its loss takes whole labels", "0"),
}
"""What has no use for a task whose answers have a place in the image."""

DETECTION = {
    **NO_MIXED_LABELS,
    "table.targets": ("boxes are in the columns x1, y1, x2 and y2", "left out"),
    "head.pooling": ("a detector answers for places, nothing is pooled", "avg"),
    "head.bias": ("a detector begins with nothing found", "frequencies"),
    "rare": ("an image has many objects; no class is dropped", "error"),
    "balance": ("an image has many objects", "none"),
}
"""What has no use for the finding of objects."""

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
        refused=FITTED_HEAD
        | NO_MIXED_LABELS
        | {
            "head.pooling": ("a decoder answers for places, nothing is pooled", "avg"),
            "rare": ("an image has many classes; none is dropped", "error"),
            "balance": ("an image has many classes", "none"),
        },
    ),
    "localisation": TaskOptions(
        binary=False,
        boxes=True,
        refused=NO_MIXED_LABELS
        | {
            "table.targets": ("a box is in the columns x1, y1, x2 and y2", "left out"),
            "head.refit": ("boxes are solved on the training part alone", "false"),
            "head.hidden": ("a box is solved from the map itself", "[]"),
        },
    ),
    "detection": TaskOptions(
        binary=False,
        fitted=True,
        detects=True,
        image_size=320,
        batch_size=8,
        patience=0,  # average precision rises unevenly, and most at the end of a cosine
        refused=FITTED_HEAD | DETECTION,
    ),
}
"""Of each task, by its name."""

REGIONS = TaskOptions(
    binary=False,
    detects=True,
    frozen=True,
    image_size=320,
    batch_size=8,
    refused=DETECTION
    | {
        "head.solver": ("windows are solved, never fitted", "auto, lbfgs"),
        "head.strength": ("windows are many more than images", "auto, validation"),
        "head.refit": ("the validation part chooses the strengths", "false"),
        "head.hidden": ("windows are solved by linear layers", "[]"),
        "detector.channels": ("windows are read off the maps themselves", "left out"),
        "regime": ("windows are solved on a frozen backbone", "auto, small"),
        "freeze": ("windows are solved on a frozen backbone", "auto, all"),
        "budget": ("windows are solved once, and nothing follows", "left out"),
        "init": ("windows are solved anew", "left out"),
    },
)

DETECTORS = {"rcnn": REGIONS}
"""By `detector.kind`, where a kind is unlike the task in general."""

NOT_YET = ("instances",)
"""Tasks that data may be for, and that nothing here does."""


def options_of(spec: Any) -> TaskOptions:
    """Return what options mean for the task of a `RunSpec`; one that is not known has no rules of
    its own."""
    found = TASK_OPTIONS.get(spec.task, TaskOptions())
    return DETECTORS.get(spec.detector.kind, found) if found.detects else found
