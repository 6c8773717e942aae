"""A contact sheet of what a scan found suspicious: one PNG to look at."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from tlkit.atomic import write_file
from tlkit.backbones.sides import told
from tlkit.data.example import Example
from tlkit.data.mask_coding import class_numbers
from tlkit.data.mask_colours import blended
from tlkit.data.masks import Masks
from tlkit.data.pictures.rendering import Rendering
from tlkit.data.scan.thumbnail import thumbnail
from tlkit.errors import DataError
from tlkit.lettering import one_font
from tlkit.places import DRAWN
from tlkit.spec.coding import Coding

TILE = 128
"""Side of an image on the sheet in pixels."""

COLUMNS = 8

TILES_PER_KIND = 24
"""Tiles of each kind; the heading says how many there are in all."""

_LINE, _GAP, _CAPTION = 14, 6, 3  # height of a line of text, space between tiles, lines of text
_STEP = (TILE + _GAP, TILE + _CAPTION * _LINE + _GAP)
_INK, _PALE, _BOX = "black", (225, 225, 225), (255, 60, 0)

BOXES = "images with their boxes, to compare"
"""Heading of images that are no suspects: whether boxes are read right, an eye sees at once."""

Tile = tuple[str, str, bool]
"""Id, what is said below it, and whether the image is to be shown."""


def write_sheet(
    summary: dict[str, Any], examples: list[Example], path: Path, rendering: Rendering
) -> int:
    """Write a contact sheet of the suspicious files in `summary`; return how many tiles it has.

    Args:
        summary: from `summarise`.
        examples: all that were scanned.
        path: a PNG file, see `places.check_png`.
        rendering: how images are shown, as training would.

    Raises:
        DataError: it cannot be written.
    """
    rows = [*_masks(summary, examples), *_rows(summary)]
    coding = Coding(tuple(summary["masks"]["taken_for"])) if "masks" in summary else None
    height = sum(_height(len(tiles)) for _, tiles in rows) + 2 * _LINE
    sheet = Image.new("RGB", (COLUMNS * _STEP[0] + _GAP, height), "white")
    file, shown = one_font([e.id for e in examples])
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(file, 11)
    by_id, y = {e.id: e for e in examples}, _GAP
    if not rows:
        pen.text((_GAP, y), "nothing suspicious", _INK, font)
    for heading, tiles in rows:
        pen.text((_GAP, y), heading, _INK, font)
        for i, (id_, text, whole) in enumerate(tiles):
            at = (_GAP + i % COLUMNS * _STEP[0], y + _LINE + _GAP + i // COLUMNS * _STEP[1])
            boxed = heading.startswith(BOXES)
            image = _shown(by_id[id_], rendering, coding, boxed) if whole else None
            _draw_tile(sheet, at, image, [*_wrapped(shown(id_), font, 2), text], font)
        y += _height(len(tiles))
    made = PngInfo()
    made.add_text("Software", DRAWN)
    try:
        content = io.BytesIO()
        sheet.save(content, "PNG", pnginfo=made)
        write_file(path, content.getvalue())
    except OSError as error:
        raise DataError(f"--sheet {path}: cannot be written: {error.strerror}") from error
    return sum(len(tiles) for _, tiles in rows)


def _rows(summary: dict[str, Any]) -> list[tuple[str, list[Tile]]]:
    """Return headings with their tiles; members of a group stand side by side."""
    said = {id_ for group in summary["two_labels"] for id_ in group}
    groups = [group for group in summary["duplicates"] if group[0] not in said]
    near = summary.get("near_duplicates") or {"pairs": [], "count": 0}
    small = summary["small"]
    kinds: list[tuple[str, int, list[Tile]]] = [
        (
            "cannot be used",
            len(summary["left_out"]),
            [(item["id"], item["reason"], False) for item in summary["left_out"]],
        ),
        ("one image under two labels", *_grouped(summary["two_labels"])),
        ("the same bytes", *_grouped(groups)),
        (
            "pairs much alike",
            near["count"] or 0,
            [(id_, f"{p['bits']} of 64 bits", True) for p in near["pairs"] for id_ in p["ids"]],
        ),
        (
            "another format than the name says",
            len(summary["misnamed"]),
            [(item["id"], f"is {item['is']}", True) for item in summary["misnamed"]],
        ),
        (
            "animations, of which the first frame counts",
            len(summary["several"]),
            [(id_, "", True) for id_ in summary["several"]],
        ),
        (
            "of one colour once decoded",
            summary["flat"]["count"],
            [(id_, "", True) for id_ in summary["flat"]["ids"]],
        ),
        (
            f"smaller than the model's input of {told(small['input'])} pixels",
            small["count"],
            [(id_, "", True) for id_ in small["smallest"]],
        ),
    ]
    if boxes := summary.get("boxes"):
        tiles = [(id_, "", True) for id_ in boxes["drawn"]]
        kinds.append((BOXES, boxes["images"], tiles))
    return [(f"{name}: {count:,}", tiles[:TILES_PER_KIND]) for name, count, tiles in kinds if tiles]


def _masks(summary: dict[str, Any], examples: list[Example]) -> list[tuple[str, list[Tile]]]:
    """Return some of the images that have masks, spread over all."""
    if "masks" not in summary:
        return []
    left_out = {item["id"] for item in summary["left_out"]}
    usable = [e.id for e in examples if e.id not in left_out]
    chosen = usable[:: max(1, -(-len(usable) // TILES_PER_KIND))]
    return [(f"masks over their images: {len(usable):,}", [(id_, "", True) for id_ in chosen])]


def _grouped(groups: list[list[str]]) -> tuple[int, list[Tile]]:
    return len(groups), [
        (id_, f"group {i + 1}", True) for i, group in enumerate(groups) for id_ in group
    ]


def _height(tiles: int) -> int:
    return _LINE + 2 * _GAP + -(-tiles // COLUMNS) * _STEP[1]


def _shown(
    example: Example, rendering: Rendering, coding: Coding | None, boxed: bool
) -> Image.Image | None:
    """Return an image as training sees it, small enough for its tile; None if it has changed.

    Args:
        coding: how masks are read; where there is a mask, it is drawn over the image.
        boxed: whether its boxes are drawn on it.
    """
    image = thumbnail(example, rendering, TILE)
    if image is None:
        return None
    if coding is not None:
        try:
            numbers = _numbers(example, coding, image.size)
        except (OSError, DataError):
            return None
        image = Image.fromarray(blended(np.asarray(image), numbers))
    if boxed:
        scale = image.width / example.label.width
        for box in example.label.boxes:
            corners = [x * scale for x in box.corners]
            ImageDraw.Draw(image).rectangle(corners, outline=_BOX, width=2)
    return image


def _numbers(example: Example, coding: Coding, size: tuple[int, int]) -> np.ndarray:
    label = replace(example.label, shape=None)
    column = Masks((label,), 0, lambda mask: mask, numbers=partial(class_numbers, coding))
    numbers = Image.fromarray(column.read(0)[..., 0])
    return np.asarray(numbers.resize(size, Image.Resampling.NEAREST))


def _draw_tile(sheet: Image.Image, at: tuple[int, int], image, lines: list[str], font) -> None:
    pen = ImageDraw.Draw(sheet)
    if image is None:
        pen.rectangle((*at, at[0] + TILE, at[1] + TILE), fill=_PALE)
        pen.line((*at, at[0] + TILE, at[1] + TILE), fill="white", width=3)
        reason = _wrapped(lines.pop(), font, TILE // _LINE)
        pen.multiline_text((at[0] + 4, at[1] + 4), "\n".join(reason), _INK, font)
    else:
        sheet.paste(image, at)
    text = "\n".join(line for line in lines if line)
    pen.multiline_text((at[0], at[1] + TILE + 1), text, _INK, font)


def _wrapped(text: str, font, lines: int) -> list[str]:
    """Break `text` into lines as wide as a tile; of a longer one the beginning is left out."""
    found, line = [], ""
    for character in text:
        if line and font.getlength(line + character) > TILE - 4:
            found.append(line)
            line = ""
        line += character
    found.append(line)
    return found if len(found) <= lines else [f"...{found[-lines]}"[:-3], *found[1 - lines :]]
