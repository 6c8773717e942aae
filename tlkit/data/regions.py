"""Areas of images as annotations give them, polygons and run lengths, drawn into pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlkit.data.annotations import Annotations, Box, Corners, Rle
from tlkit.data.pictures.limits import MAX_PIXELS
from tlkit.errors import DataError

FAR = 2
"""Sides of an image by which a corner of a polygon may leave it; what is farther is brought there,
since drawing takes time and memory by the length of an outline."""


def rle_of(value: dict, place: str) -> Rle:
    """Return the run lengths of COCO: a list of numbers, or the text that pycocotools writes.

    The text is that of `rleToString` in maskApi.c of https://github.com/cocodataset/cocoapi: six
    bits a character from `0` on, five of them of a number, the sixth says that more follow; from
    the fourth number on it is the difference from the one two places before.

    Args:
        place: begins an error message.

    Raises:
        DataError: it is something else, or does not cover the image.
    """
    size, counts = value.get("size"), value.get("counts")
    if not _are_whole(size) or len(size) != 2 or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"{place}: segmentation: size: Allowed: [height, width], of {MAX_PIXELS:,} pixels at "
            f"most. Received: {str(size)[:80]}"
        )
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not _are_whole(runs) or sum(runs) != size[0] * size[1]:
        total = f"{sum(runs):,} pixels" if _are_whole(runs) else str(counts)[:80]
        raise DataError(
            f"{place}: segmentation: counts: Allowed: lengths of runs that cover the "
            f"{size[0] * size[1]:,} pixels of its size, as a list or as pycocotools writes them. "
            f"Received: {total}"
        )
    return Rle(tuple(runs), *size)


def _are_whole(values: object) -> bool:
    return isinstance(values, list) and all(type(x) is int and x >= 0 for x in values)


def _unpacked(text: str) -> list[int] | None:
    """Return the numbers in such a text; None: it is none."""
    counts: list[int] = []
    number, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > 60:
            return None
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number, bits = 0, 0
    return counts if bits == 0 else None


def box_of(rle: Rle) -> Corners:
    """Return the corners of the box around an area; an empty one has none: all are 0."""
    ends = np.cumsum(rle.counts)
    inside = np.concatenate(
        [np.arange(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)] or [[]]
    ).astype(int)
    if not len(inside):
        return (0.0, 0.0, 0.0, 0.0)
    x, y = inside // rle.height, inside % rle.height
    return (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))


def area_of(box: Box) -> float:
    """Return about how many pixels an object covers: that of its outline, else of its box."""
    if box.rle:
        return sum(box.rle.counts[1::2])
    if not box.outline:
        return box.extent[0] * box.extent[1]
    # The shoelace formula, of each polygon by itself.
    pairs = [(np.array(p[::2]), np.array(p[1::2])) for p in box.outline]
    return sum(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 for x, y in pairs)


def draw_regions(
    label: Annotations, values: Sequence[int], outside: int, height: int, width: int
) -> np.ndarray:
    """Return the value of each pixel of an image, int32 (height, width).

    The larger an object, the earlier it is drawn: a window stays visible on its house. Those of
    one size are drawn in their order.

    Args:
        label: with corners and outlines in pixels.
        values: for each of its boxes what its pixels get.
        outside: what pixels in none of them get.
    """
    columns = np.full((width, height), outside, np.int32)  # run lengths go down the columns
    order = sorted(range(len(values)), key=lambda i: -area_of(label.boxes[i]))
    for i in order:
        box = label.boxes[i]
        if box.rle:
            _draw_runs(box.rle, values[i], columns)
        elif box.outline:
            _draw_polygons(box.outline, values[i], columns)
        else:
            left, top, right, low = (max(0, round(x)) for x in box.corners)
            columns[left:right, top:low] = values[i]
    return np.ascontiguousarray(columns.T)


def _draw_runs(rle: Rle, value: int, columns: np.ndarray) -> None:
    flat, ends = columns.reshape(-1), np.cumsum(rle.counts)
    for begin, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=False):
        flat[begin:end] = value


def _draw_polygons(outline: Sequence[Sequence[float]], value: int, columns: np.ndarray) -> None:
    """Draw polygons by the rule of pycocotools, in the part of the image where they are."""
    from pycocotools import mask

    width, height = columns.shape
    points = [np.asarray(polygon, float).reshape(-1, 2) for polygon in outline]
    sides = np.array([width, height])
    points = [np.clip(own, -FAR * sides, (1 + FAR) * sides) for own in points]
    every = np.concatenate(points)
    first = np.clip(np.floor(every.min(axis=0)).astype(int), 0, sides - 1)
    last = np.clip(np.ceil(every.max(axis=0)).astype(int) + 1, first + 1, sides)
    own_width, own_height = (int(x) for x in last - first)
    moved = [(own - first).ravel().tolist() for own in points]
    drawn = mask.merge(mask.frPyObjects(moved, own_height, own_width))
    inside = mask.decode(drawn).astype(bool)
    columns[first[0] : last[0], first[1] : last[1]][inside.T] = value
