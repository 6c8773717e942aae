"""Where an image lies in what a network sees: stretched over it, or whole between two bars."""

from __future__ import annotations

from typing import Any, NamedTuple

from tlkit.backbones.sides import sides

STRETCH, LETTERBOX = "stretch", "letterbox"

BARS = (124, 117, 104)
"""What letterboxed images lie on, RGB: the mean of ImageNet's, rounded (Simonyan & Zisserman 2015),
so that a network sees next to nothing there."""


class Placement(NamedTuple):
    """A rectangle in what the network sees, in whole pixels: integers, or arrays of them."""

    top: Any
    left: Any
    height: Any
    width: Any


def placement(height: Any, width: Any, size: Any, fit: str) -> Placement:
    """Return where an image of this height and width lies in what the network sees, of `size`.

    Letterboxed, it is as large as fits: one side is as long as that of the size, the other in
    proportion, rounded half up and one pixel at least; an odd pixel of the bars is below or to the
    right. Only operators are used, so that integers, NumPy's arrays and tensors, in a graph too,
    give the same.

    Args:
        height, width: int, or an array or tensor of 64 bits: their products exceed 32.
        size: see `sides`.
        fit: `stretch` or `letterbox`.
    """
    rows, columns = sides(size)
    if fit == STRETCH:
        return Placement(0, 0, rows, columns)
    own_rows = _within((2 * columns * height + width) // (2 * width), rows)
    own_columns = _within((2 * rows * width + height) // (2 * height), columns)
    top, left = (rows - own_rows) // 2, (columns - own_columns) // 2
    return Placement(top, left, own_rows, own_columns)


def _within(length: Any, most: Any) -> Any:
    """Return a length of one pixel at least, and of `most` at most."""
    longer = (length + 1 + abs(length - 1)) // 2
    return (longer + most - abs(longer - most)) // 2
