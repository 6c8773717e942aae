"""Maps of large images: answered in overlapping tiles of their own pixels, and blended.

A network that was trained on images of some hundred pixels sees a thousand in the place of each of
its own if an aerial image is resized to its input. Tiles show it things as large as it knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tlkit.backbones.sides import Size
from tlkit.data.pictures.decode import decode, resize
from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import SpecError
from tlkit.progress import Progress
from tlkit.tasks.task import Task

OVERLAP = 4
"""The part of a tile that it shares with the next, at least: one of so many. U-Net's tiles overlap
by what its edges lack (Ronneberger et al. 2015, figure 2); a quarter is a choice, not measured."""

FEWEST = 32
"""Least side of a tile in pixels."""

TOGETHER = 8
"""Tiles that are answered at a time."""


def check_tile(task: Task, tile: int | None) -> None:
    """Check the side of tiles; None: there are none.

    Raises:
        SpecError: it is too small, or the task's answers are no maps.
    """
    if tile is None:
        return
    if not task.maps:
        raise SpecError(
            f"tile: the answers of the task {task.name} are no maps that could be put together. "
            f"Allowed: left out. Received: {tile}"
        )
    if not isinstance(tile, int) or tile < FEWEST:
        raise SpecError(f"tile: Allowed: {FEWEST} pixels or more. Received: {tile}")


def places(length: int, tile: int) -> list[int]:
    """Return where tiles begin along a side of an image.

    They are as few as overlap by a quarter or more, evenly spread; the last ends with the image.

    >>> places(100, 40), places(40, 40)
    ([0, 30, 60], [0])
    """
    if length <= tile:
        return [0]
    step = tile - tile // OVERLAP
    count = -(-(length - tile) // step) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def weights(length: int, overlap: int) -> np.ndarray:
    """Return how much each pixel along a side of a tile counts, float32 (length,), above 0 to 1.

    They rise from the edges, so that a tile comes in as gently as the one before goes out.
    """
    along = np.arange(length) + 0.5
    return (np.minimum(np.minimum(along, along[::-1]), overlap) / overlap).astype(np.float32)


def tiled_map(
    image: np.ndarray, tile: int, answer: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> np.ndarray:
    """Return the most probable class of each pixel, uint8 (height, width).

    One row of tiles is in memory at a time: of 21 classes and tiles of 1,024 pixels that is 0.3 GB
    for an image 4,000 pixels wide.

    Args:
        image: uint8 (height, width, 3).
        tile: its side in pixels.
        answer: from tiles (at most `tile` a side, 3) to probabilities float32 (the same height and
            width, classes).
    """
    height, width = image.shape[:2]
    tops, lefts = places(height, tile), places(width, tile)
    own_height, own_width = min(tile, height), min(tile, width)
    overlap = max(1, tile // OVERLAP)
    weight = np.outer(weights(own_height, overlap), weights(own_width, overlap))[..., None]
    numbers = np.zeros((height, width), np.uint8)
    band: np.ndarray | None = None
    for top, below in zip(tops, [*tops[1:], height], strict=True):
        for left, own in _answered(image, top, lefts, (own_height, own_width), answer):
            if band is None:
                band = np.zeros((own_height, width, own.shape[-1]), np.float32)
            # What weights sum up to is the same for all classes, and does not matter to the
            # largest of them.
            band[:, left : left + own_width] += own * weight
        done = below - top
        numbers[top:below] = band[:done].argmax(axis=-1)
        band[:-done] = band[done:].copy()
        band[-done:] = 0
    return numbers


def _answered(
    image: np.ndarray,
    top: int,
    lefts: Sequence[int],
    sides: tuple[int, int],
    answer: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield where each tile of a row begins, and its answer."""
    for start in range(0, len(lefts), TOGETHER):
        some = lefts[start : start + TOGETHER]
        cut = [image[top : top + sides[0], left : left + sides[1]] for left in some]
        yield from zip(some, answer(cut), strict=True)


@dataclass
class Tiling:
    """Answers encoded images in tiles; one that is no larger than a tile as a whole.

    Attributes:
        function: from images float32 (n, size, size, 3), 0-255, to the model's outputs (n, ...).
        task: of the outputs.
        size: of the model's input, see `sides`.
        rendering: how images are decoded and resized.
        tile: side of a tile, in pixels of the image.
        cut: images so far that were larger than a tile.
    """

    function: Callable[[np.ndarray], np.ndarray]
    task: Task
    size: Size
    rendering: Rendering
    tile: int
    cut: int = 0

    def __call__(self, encoded: Sequence[bytes]) -> list[np.ndarray]:
        """Return maps of class numbers uint8 (height, width), each of its image's size."""
        return [self._map(item) for item in encoded]

    def say(self, progress: Progress) -> None:
        """Say it where tiles had no effect."""
        if not self.cut:
            text = f"no image is larger than {self.tile} pixels: each was answered as a whole"
            progress.say("tile", text)

    def _map(self, encoded: bytes) -> np.ndarray:
        image = decode(encoded, self.rendering).numpy()
        height, width = image.shape[:2]
        if max(height, width) <= self.tile:
            return np.asarray(self.task.label_map(self._rows([image])[0], height, width))
        self.cut += 1
        return tiled_map(image, self.tile, self._spread)

    def _rows(self, images: list[np.ndarray]) -> np.ndarray:
        given = [resize(own, self.size, self.rendering.fit).numpy() for own in images]
        return np.asarray(self.function(np.stack(given)), np.float32)

    def _spread(self, images: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(self._rows(images), images, strict=True)
        return [np.asarray(self.task.spread(row, *own.shape[:2])) for row, own in pairs]
