"""Several objects an image: what was found in it, and what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlkit.data.annotations import Annotations

CROWD = "crowd"
"""`Box.aside` of a region of many objects (COCO's `iscrowd`)."""


class Found(NamedTuple):
    """Answers for one image, after non-maximum suppression, the best score first.

    Attributes:
        boxes: float32 (k, 4), x1, y1, x2, y2 in pixels of the upright original.
        scores: float32 (k,), 0 to 1.
        classes: int64 (k,), places in the task's class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


class TrueObjects(NamedTuple):
    """The truth of one image.

    Attributes:
        boxes, classes: of its g objects, as in `Found`.
        aside: bool (g,), those that do not count: what finds one is neither right nor wrong.
        height, width: of the upright original in pixels.
        crowd: bool (g,), those of `aside` that are regions of many objects; None: none is.
    """

    boxes: np.ndarray
    classes: np.ndarray
    aside: np.ndarray
    height: int
    width: int
    crowd: np.ndarray | None = None


def true_objects(label: Annotations, names: Sequence[str]) -> TrueObjects:
    """Return the objects of an image that was scanned; boxes that hold nothing are left out.

    Args:
        names: of all classes, in the order of the task's outputs.
    """
    boxes, place = label.sound, {name: i for i, name in enumerate(names)}
    return TrueObjects(
        np.array([box.corners for box in boxes], np.float32).reshape(-1, 4),
        np.array([place[box.name] for box in boxes], np.int64),
        np.array([bool(box.aside) for box in boxes], bool),
        label.height,
        label.width,
        np.array([box.aside == CROWD for box in boxes], bool),
    )
