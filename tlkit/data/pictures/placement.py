"""Where an image lies in what a network sees: stretched over it, or whole between two bars."""

from __future__ import annotations

from typing import Any, NamedTuple

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


def placement(height: Any, width: Any, size: int, fit: str) -> Placement:
    """Return where an image of this height and width lies in a square of `size` pixels.

    Letterboxed, its longer side is as long as the square's, the other in proportion, rounded half
    up and one pixel at least; an odd pixel of the bars is below or to the right. Only operators
    are used, so that integers, NumPy's arrays and tensors, in a graph too, give the same.

    Args:
        height, width: int, or an array or tensor of 64 bits: their products exceed 32.
        fit: `stretch` or `letterbox`.
    """
    if fit == STRETCH:
        return Placement(0, 0, size, size)
    longer = _larger(height, width)
    rows, columns = (
        _larger((2 * size * side + longer) // (2 * longer), 0 * side + 1)
        for side in (height, width)
    )
    return Placement((size - rows) // 2, (size - columns) // 2, rows, columns)


def _larger(one: Any, other: Any) -> Any:
    return (one + other + abs(one - other)) // 2
