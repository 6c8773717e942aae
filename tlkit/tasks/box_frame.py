"""Boxes between an image and what the network sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.data.pictures.placement import STRETCH, placement


@dataclass(frozen=True)
class Frame:
    """How images are brought to the size of the network's input, see `placement`.

    Boxes are x1, y1, x2, y2 (n, ..., 4), as fractions of width and height; `sizes` are int64 (n,
    2), height and width of the images they are of; `xp` is `numpy` or `keras.ops`.
    """

    size: Size
    resize: str = STRETCH

    @property
    def whole(self) -> np.ndarray:
        """Width, height, width, height of what the network sees, in pixels."""
        height, width = sides(self.size)
        return np.array([width, height, width, height], np.float32)

    def seen(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return boxes as fractions of what the network sees, of such of their images."""
        if self.resize == STRETCH:
            return boxes
        first, extent = self._place(boxes, sizes, np)
        return (boxes * extent + first) / self.whole

    def of_image(self, boxes: Any, sizes: Any, xp: Any = np) -> Any:
        """Return boxes as fractions of their images, cut to them, of such of what the network
        sees."""
        if self.resize == STRETCH:
            return boxes
        first, extent = self._place(boxes, sizes, xp)
        return xp.clip((boxes * self.whole - first) / extent, 0.0, 1.0)

    def _place(self, boxes: Any, sizes: Any, xp: Any) -> tuple[Any, Any]:
        """Return where images lie in what the network sees, in its pixels: left, top, left, top,
        and width, height, width, height, in the form of their boxes."""
        place = placement(sizes[:, 0], sizes[:, 1], self.size, self.resize)
        form = (-1, *[1] * (len(boxes.shape) - 2), 4)
        pairs = (place.left, place.top), (place.width, place.height)
        found = (xp.reshape(xp.stack([*pair] * 2, axis=1), form) for pair in pairs)
        return tuple(x if xp is np else xp.cast(x, "float32") for x in found)
