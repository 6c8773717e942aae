"""What is drawn in an image: boxes by class, in the image's own pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2: the left, upper, right and lower edge, in pixels from the left upper corner of
the image; a box around its first pixel is 0, 0, 1, 1."""


class Rle(NamedTuple):
    """An area by run lengths, column after column: pixels outside, inside, outside, and so on.

    Attributes:
        counts: lengths of the runs; their sum is `height` times `width`.
        height, width: of the image that they are of, in pixels.
    """

    counts: tuple[int, ...]
    height: int
    width: int


class Box(NamedTuple):
    """One object.

    Attributes:
        name: its class.
        corners: of the box around it.
        aside: why it is not counted where a model is measured: `difficult`; empty: it is.
        outline: polygons x, y, x, y, ... where they are drawn as well.
        rle: its area, where that is given instead.
    """

    name: str
    corners: Corners
    aside: str = ""
    outline: tuple[tuple[float, ...], ...] = ()
    rle: Rle | None = None

    @property
    def outlined(self) -> bool:
        """Whether more is known of the object than its box."""
        return self.rle is not None or (bool(self.outline) and not self._is_rectangle)

    @property
    def _is_rectangle(self) -> bool:
        """Whether the outline is a single rectangle along the axes, as some tools write boxes."""
        xs, ys = self.outline[0][::2], self.outline[0][1::2]
        corners = len(set(zip(xs, ys, strict=True)))
        return len(self.outline) == 1 and len(set(xs)) == len(set(ys)) == 2 and corners == 4

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
        fitted: whether all that is known to hold of the upright image.
    """

    boxes: tuple[Box, ...]
    height: int = 0
    width: int = 0
    relative: bool = False
    places: tuple[str, ...] = field(default=(), compare=False)
    fitted: bool = field(default=False, compare=False)

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
