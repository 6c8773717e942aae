"""Boxes as a person looks at them: on their images, and how well they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tlkit.lettering import one_font
from tlkit.tasks.box_metrics import RIGHT_FROM
from tlkit.tasks.drawing import save_figure

INK, TRUE_INK = (255, 60, 0), (0, 170, 60)
"""Colours of an answered and of a true box, RGB."""

ACROSS = 4
"""Tiles side by side."""


def draw_box(
    image: np.ndarray, box: Sequence[float], text: str = "", ink: tuple[int, int, int] = INK
) -> np.ndarray:
    """Return an image with a box on it.

    Args:
        image: (height, width, 3), 0-255.
        box: x1, y1, x2, y2 in its pixels.
        text: what is written at its upper edge, inside.
    """
    made = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    pen, line = ImageDraw.Draw(made), max(2, round(max(made.size) / 200))
    x1, y1, x2, y2 = (float(x) for x in box)
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=ink, width=line)
    if text:
        file, shown = one_font([text])
        font = ImageFont.truetype(file, max(11, round(max(made.size) / 40)))
        at = (x1 + line + 1, y1 + line + 1)
        pen.rectangle(pen.textbbox(at, shown(text), font), fill=ink)
        pen.text(at, shown(text), "white", font)
    return np.asarray(made)


def draw_tiles(tiles: Sequence[tuple[np.ndarray, str]], title: str, path: Path) -> None:
    """Draw images side by side, each with what is said of it below, as PNG."""
    rows = -(-len(tiles) // ACROSS)
    figure = Figure(figsize=(3 * ACROSS, 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (image, text) in zip(grid, tiles, strict=False):
        axes.imshow(image)
        axes.set_title(text, fontsize=8)
    figure.suptitle(title)
    save_figure(figure, path)


def draw_overlaps(iou: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw the IoU of each image, class by class from the worst on, as PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in sorted(set(names)):
        own = np.sort(iou[[other == name for other in names]])
        axes.plot(np.linspace(0, 1, len(own)) if len(own) > 1 else [0.5], own, ".-", label=name)
    axes.axhline(RIGHT_FROM, color="black", linewidth=0.8, linestyle="--")
    axes.set_xlabel("fraction of the images of a class, worst first")
    axes.set_ylabel("IoU")
    axes.set_ylim(0, 1)
    axes.set_title(f"{len(iou):,} images, mean IoU {iou.mean():.3f}")
    axes.legend(loc="lower right")
    save_figure(figure, path)
