"""Files beside masks that name their classes, by number or by colour."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from tlkit.errors import printable

NAMES = ("classes.txt", "labels.txt", "codes.txt", "class_names.txt")
"""Files that name the classes in the order of their numbers, one a line."""

LABEL_MAP = "labelmap.txt"
"""CVAT's file in a VOC export, `name:r,g,b:parts:actions` a line: colours of classes in order."""

COLOURS = ("class_dict.csv", "label_colors.txt", "label_colours.txt", LABEL_MAP)
"""Files that name colours, one a line: `name,r,g,b` or `r g b name` (CamVid's forms)."""


def names_beside(folder: Path) -> list[str]:
    """Return the names of the classes in the order of their numbers; nothing if none are there."""
    for file in NAMES:
        if (folder / file).is_file():
            lines = (folder / file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return [printable(line.strip()) for line in lines if line.strip()]
    if (folder / LABEL_MAP).is_file():
        return list(colour_table(folder).values())
    return []


def colour_table(folder: Path) -> dict[str, str]:
    """Return the name of each colour (six hexadecimal digits); nothing if there is no such file."""
    for file in COLOURS:
        if (folder / file).is_file():
            text = (folder / file).read_text(encoding="utf-8-sig", errors="replace")
            return dict(_colour_rows(text.replace(":", ",") if file == LABEL_MAP else text))
    return {}


def _colour_rows(text: str) -> Iterator[tuple[str, str]]:
    for row in filter(None, csv.reader(text.splitlines())):
        cells = [cell.strip() for cell in row] if len(row) > 1 else re.split(r"\s+", row[0].strip())
        numbers = [int(x) for x in cells if x.isdecimal() and int(x) < 256]
        words = [x for x in cells if x and not x.isdecimal()]
        if len(numbers) == 3 and words:
            yield "".join(f"{x:02x}" for x in numbers), printable(" ".join(words))
