"""Detections as a person looks at them: boxes on images, curves, confusion, kinds of error."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tlkit.lettering import one_font
from tlkit.tasks.detection_metrics import Assessment, precision_and_recall
from tlkit.tasks.drawing import save_figure

Ink = tuple[int, int, int]

GOLDEN = (5**0.5 - 1) / 2
"""Turn of the hue from a class to the next: no two of the first dozens are alike."""

CROWDED = 20
"""Boxes in an image above which a label that is larger than its box is left out."""

CURVES = 10
"""Classes whose curves have a colour and a name, those with most objects; others are grey."""

DIFFERENCES = {
    "class": "another class's object",
    "place": "right class, box too far off",
    "both": "wrong class, box too far off",
    "duplicate": "an object found before",
    "background": "nothing is there",
    "missed": "an object not found",
}


def class_ink(place: int) -> Ink:
    """Return the colour of a class, RGB, by its place in the class names."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + place * GOLDEN) % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    ink: Ink | None = None,
) -> np.ndarray:
    """Return an image uint8 (height, width, 3) with boxes on it, each with its class and score.

    The best score lies on top. A label that would hide most of the image is left out, and in an
    image of more than `CROWDED` boxes one that is larger than its box.

    Args:
        image: (height, width, 3), 0-255.
        boxes: x1, y1, x2, y2 in its pixels (k, 4).
        classes: of the boxes (k,), places in `names`.
        names: of all classes; empty: no labels.
        scores: of the boxes (k,); None: they have none.
        ink: colour of all; None: one a class.
    """
    made = Image.fromarray(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
    pen, line = ImageDraw.Draw(made), max(2, round(max(made.size) / 250))
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    inks = [ink or class_ink(int(k)) for k in classes]
    for i in order:
        x1, y1, x2, y2 = (float(x) for x in boxes[i])
        edges = x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)
        pen.rectangle(edges, outline=(0, 0, 0), width=line + 1)  # seen on its own colour too
        pen.rectangle(edges, outline=inks[i], width=line)
    if names and len(boxes):
        file, shown = one_font({names[int(k)] for k in classes})
        font = ImageFont.truetype(file, max(11, round(max(made.size) / 45)))
        for i in order:
            text = shown(names[int(classes[i])])
            text = text if scores is None else f"{text} {scores[i]:.2f}"
            _label(pen, made.size, boxes[i], text, font, inks[i], len(boxes) > CROWDED)
    return np.asarray(made)


def _label(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], box: np.ndarray, text: str,
    font: ImageFont.FreeTypeFont, ink: Ink, crowded: bool,
) -> None:  # fmt: skip
    """Write a label above a box, or inside at its upper edge where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    width, height = right - left + 4, bottom - top + 4
    own = float(box[2] - box[0]), float(box[3] - box[1])
    if width > size[0] or 4 * height > size[1]:
        return
    if crowded and (width > own[0] or height > own[1]):
        return
    x = min(max(0.0, float(box[0])), size[0] - width)
    y = float(box[1]) - height if box[1] >= height else max(0.0, float(box[1]))
    y = min(y, size[1] - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=ink)
    dark = 0.299 * ink[0] + 0.587 * ink[1] + 0.114 * ink[2] > 140  # luma, ITU-R BT.601
    pen.text((x + 2 - left, y + 2 - top), text, "black" if dark else "white", font)


def draw_curves(assessment: Assessment, shown: Callable[[str], str], path: Path) -> None:
    """Draw precision against recall of each class at IoU 0.5, with its threshold, as PNG.

    Args:
        shown: what is drawn of a name, see `lettering`.
    """
    names, counts = assessment.names, assessment.matches.count(len(assessment.names))
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    metrics = {k: assessment.of_class(k) for k in order}
    for k in reversed(order[CURVES:]):
        axes.plot(*precision_and_recall(assessment, k)[::-1], color="0.8", linewidth=0.8)
    for k in order[:CURVES]:
        precision, recall = precision_and_recall(assessment, k)
        own, ink = metrics[k], np.array(class_ink(k)) / 255
        label = f"{shown(names[k])}: AP50 {own['ap50']:.3f}, {counts[k]:,} objects"
        axes.plot(recall, precision, color=ink, label=label)
        if own["precision"] is not None:
            axes.plot(own["recall"], own["precision"], "o", color=ink)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    average = assessment.averages["ap50"]
    text = "no objects" if average is None else f"AP50 {average:.3f}; dots: at the thresholds"
    axes.set_title(text)
    if order:
        axes.legend(loc="lower left", fontsize=8)
    save_figure(figure, path)


def draw_errors(errors: dict[str, int], objects: int, path: Path) -> None:
    """Draw how many errors of each kind there are as bars, as PNG."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{name}\n{DIFFERENCES[name]}" for name in errors]
    bars = axes.barh(range(len(errors)), list(errors.values()), color="tab:red")
    axes.bar_label(bars, [f"{count:,}" for count in errors.values()], padding=3)
    axes.set_yticks(range(len(errors)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(1, *errors.values()))
    axes.set_title(f"{sum(errors.values()):,} errors at the thresholds; {objects:,} objects")
    save_figure(figure, path)
