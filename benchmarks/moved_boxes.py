"""Writes moved copies of the images of a table with boxes: objects that are not where they were.

Where objects stand in the middle of all images, the mean box of the training images is already a
good answer. Each test image is set, smaller, at a random place of a canvas of its own mean colour,
and its box with it. The copies are lossless, so that only the place is another.

    python benchmarks/moved_boxes.py boxes.csv moved/
    tlkit evaluate RUN moved/boxes.csv

Takes about 5 s for 100 images.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SCALES = (0.5, 0.9)
"""Least and largest side of the image as a fraction of its canvas."""


def moved(image: Image.Image, box: list[float], random) -> tuple[Image.Image, list[float]]:
    """Return a canvas of the image's own size with the image on it, and the box there."""
    width, height = image.size
    scale = random.uniform(*SCALES)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    colour = tuple(int(x) for x in np.asarray(image).reshape(-1, 3).mean(axis=0))
    canvas = Image.new("RGB", image.size, colour)
    x = int(random.integers(0, width - small.width + 1))
    y = int(random.integers(0, height - small.height + 1))
    canvas.paste(small, (x, y))
    across, down = small.width / width, small.height / height
    x1, y1, x2, y2 = box
    return canvas, [x + x1 * across, y + y1 * down, x + x2 * across, y + y2 * down]


def main(table: Path, out: Path, part: str = "test") -> None:
    """Write the moved copies of one part, with their own table."""
    random = np.random.default_rng(0)
    (out / "images").mkdir(parents=True)
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == part]
    with (out / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "x1", "y1", "x2", "y2"])
        for i, row in enumerate(rows):
            with Image.open(table.parent / row["image"]) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
            box = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
            copy, corners = moved(image, box, random)
            name = f"images/{row['label']}_{i:04d}.png"
            copy.save(out / name)
            writer.writerow([name, row["label"], *(f"{x:.2f}" for x in corners)])


if __name__ == "__main__":
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("table", type=Path, help="with image, label, x1, y1, x2, y2 and split")
    parser.add_argument("out", type=Path, help="a new folder")
    options = parser.parse_args()
    main(options.table, options.out)
