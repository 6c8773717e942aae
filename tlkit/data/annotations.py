"""What is drawn in an image: boxes by class, in the image's own pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2: the left, upper, right and lower edge, in pixels from the left upper corner of
the image; a box around its first pixel is 0, 0, 1, 1."""


class Box(NamedTuple):
    """One object.

    Attributes:
        name: its class.
        corners: of the box around it.
        aside: why it is not counted where a model is measured: `difficult`; empty: it is.
        outline: polygons x, y, x, y, ... where they are drawn as well.
    """

    name: str
    corners: Corners
    aside: str = ""
    outline: tuple[tuple[float, ...], ...] = ()

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in pixels; negative where corners are exchanged."""
        return self.corners[2] - self.corners[0], self.corners[3] - self.corners[1]


@dataclass(frozen=True)
class Annotations:
    """All objects of an image.

    Attributes:
        boxes: float corners, of the image as it is shown upright once it has been scanned.
        height, width: of the image in pixels: as the annotations say, 0 where they do not; after
            the scan those of the upright image.
        relative: whether corners are fractions of width and height; after the scan none are.
        places: file and line, or id, of each box.
    """

    boxes: tuple[Box, ...]
    height: int = 0
    width: int = 0
    relative: bool = False
    places: tuple[str, ...] = field(default=(), compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in it, in alphabetical order."""
        return tuple(sorted({box.name for box in self.boxes}))

    @property
    def sound(self) -> tuple[Box, ...]:
        """Those of the boxes that hold something."""
        return tuple(box for box in self.boxes if min(box.extent) > 0)

    def plain(self) -> list[list[str | float]]:
        """Return name and corners of each box, as JSON has them."""
        return [[box.name, *box.corners] for box in self.boxes]

    def joined(self, other: Annotations) -> Annotations:
        """Return the objects of both."""
        both = self.boxes + other.boxes
        return replace(self, boxes=both, places=self.places + other.places)
