"""What an export says of itself: inside its file, and beside it in `export.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones.sides import Size
from tlkit.data.pictures.files import parse_json, read_file
from tlkit.data.pictures.placement import BARS, LETTERBOX, STRETCH
from tlkit.data.pictures.rendering import Rendering
from tlkit.data.targets import Targets
from tlkit.errors import ExportError
from tlkit.spec.run import RunSpec
from tlkit.spec.tables import TableSpec
from tlkit.tasks.registry import targets_of, task_from_json
from tlkit.tasks.task import Task

BESIDE = "export.json"

KEY = "tlkit"
"""Under which a file's metadata hold `About.to_json`, as JSON."""

IMAGE = "image"
"""The name of a network's input."""

RESIZED = {
    STRETCH: "stretched to the size, bilinear, antialiased",
    LETTERBOX: "to the size at its own aspect ratio, bilinear, antialiased; sides rounded half "
    f"up, one pixel at least; centred, an odd pixel below or to the right; bars of RGB {BARS}",
}
"""What is done to images, in words, by `Rendering.fit`."""

Answered = tuple[np.ndarray, dict[str, np.ndarray]]
"""The sizes of images int32 (n, 2), height and width, by which places in them are told; and all
that is answered for them, by name."""


@dataclass(frozen=True)
class About:
    """What must be known to feed an export and to read its answers.

    Attributes:
        kind: the format, one of `formats.FORMATS`.
        task: gives names to the answers.
        size: that images are brought to, see `sides`.
        rendering: how transparency and 16-bit samples are shown.
        backbone: of the network, for people.
        views: 2: the mean over an image and its mirror image is inside.
        table: how tables of labelled images are read for an evaluation.
        class_names: of the labels 0, 1, ... of such data, as in `RunSpec.class_names`.
        mask_values: what values in masks mean, likewise.
    """

    kind: str
    task: Task
    size: Size
    rendering: Rendering
    backbone: str = ""
    views: int = 1
    table: TableSpec = field(default_factory=TableSpec)
    class_names: tuple[str, ...] = ()
    mask_values: tuple[str, ...] = ()

    @property
    def targets(self) -> Targets:
        """How the labels of an evaluation are read."""
        read = {"class_names": list(self.class_names), "mask_values": list(self.mask_values)}
        return targets_of(RunSpec(task=self.task.name, table=self.table, **read))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; in words that need no knowledge of tlkit."""
        return {
            "format": self.kind,
            "backbone": self.backbone,
            "labels": list(self.task.outputs),
            "input": {
                "name": IMAGE,
                "size": list(self.size) if isinstance(self.size, tuple) else self.size,
                "layout": "NHWC",
                "channels": "RGB",
                "range": [0, 255],
            },
            "preprocessing": {
                "orientation": "turned upright by EXIF",
                "resize": RESIZED[self.rendering.fit],
                "scaling": "none: it is inside the network",
                **self.rendering._asdict(),
            },
            "views": self.views,
            "task": self.task.to_json(),
            "answers": self.task.answers,
            "labelled": {
                "table": self.table.model_dump(mode="json"),
                "class_names": list(self.class_names),
                "mask_values": list(self.mask_values),
            },
        }


def about_of(kind: str, task: Task, spec: RunSpec, rendering: Rendering, views: int) -> About:
    """Return what an export of a run says of itself; the arguments are fields of `About`."""
    read = {
        "table": spec.table,
        "class_names": tuple(spec.class_names),
        "mask_values": tuple(spec.mask_values),
    }
    return About(kind, task, spec.size, rendering, spec.backbone.name, views, **read)


def about_from_json(value: Any, where: Path) -> About:
    """Return what `About.to_json` wrote.

    Raises:
        ExportError: it is something else.
    """
    try:
        drawn, labelled = value["preprocessing"], value["labelled"]
        return About(
            kind=value["format"],
            task=task_from_json(value["task"]),
            size=_size(value["input"]["size"]),
            rendering=Rendering(drawn["alpha"], drawn["bits"], drawn.get("fit", STRETCH)),
            backbone=value["backbone"],
            views=value["views"],
            table=TableSpec(**labelled["table"]),
            class_names=tuple(labelled["class_names"]),
            mask_values=tuple(labelled["mask_values"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(f"export {where}: what it says of itself is damaged: {error}") from error


def _size(value: Any) -> Size:
    return (int(value[0]), int(value[1])) if isinstance(value, list) else int(value)


def read_beside(folder: Path) -> dict[str, Any] | None:
    """Return the content of `export.json`; None where there is none.

    Raises:
        ExportError: it is damaged.
    """
    file = folder / BESIDE
    try:
        value = parse_json(read_file(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ExportError(f"export {folder}: {BESIDE} is damaged: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("files", {}), dict):
        raise ExportError(f"export {folder}: {BESIDE} is damaged: it is no description of files")
    return value
