"""The size of a network's input: one number for a square, else height and width, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Size = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


def sides(size: Any) -> tuple[Any, Any]:
    """Return height and width; of tensors in the place of numbers as well.

    >>> sides(224), sides((360, 480))
    ((224, 224), (360, 480))
    """
    return size if isinstance(size, tuple) else (size, size)


def size_of(shape: Sequence[int | None]) -> Size:
    """Return the size of an input of this shape (batch, height, width, channels)."""
    height, width = shape[1:3]
    return height if height == width else (height, width)


def told(size: Any) -> str:
    """Return a size in words.

    >>> told(224), told((360, 480))
    ('224', '360 x 480 (height x width)')
    """
    height, width = sides(tuple(size) if isinstance(size, list) else size)
    return f"{height}" if height == width else f"{height} x {width} (height x width)"
