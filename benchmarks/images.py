"""Generated JPEG images in class folders: no two alike, each class with a tint of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("amber", "blue", "coral")
TINTS = ((230, 170, 60), (60, 110, 230), (230, 100, 90))


def write_images(folder: Path, count: int, size: int) -> Path:
    """Write `count` images in all, `size` pixels a side, below `folder`; return it.

    They are smooth noise, coloured: coarse enough for JPEG to compress them about as well as a
    photo (some 0.2 bytes a pixel), so that decoding them costs about as much.
    """
    random = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for i in range(count):
        label = CLASSES[i % len(CLASSES)]
        tint = np.array(TINTS[i % len(CLASSES)])
        coarse = random.normal(tint, 40, (size // 8 + 1, size // 8 + 1, 3)).clip(0, 255)
        image = Image.fromarray(coarse.astype(np.uint8)).resize((size, size), Image.BICUBIC)
        image.save(folder / label / f"{i:06d}.jpg", quality=90)
    return folder
