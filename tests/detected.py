"""Generated images with any number of coloured rectangles, and a small network for them."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = 64
COLOURS = {"blue": (40, 80, 220), "red": (220, 60, 40)}


def paint(random, width=80, height=64, most=3, least=1):
    """Return an image of noise with rectangles, and (name, corners) of each."""
    pixels = random.integers(90, 150, (height, width, 3), dtype=np.uint8)
    objects, taken = [], np.zeros((height, width), bool)
    for _ in range(int(random.integers(least, most + 1))):
        for _ in range(20):
            w, h = (int(random.integers(16, 29)) for _ in "wh")
            x, y = int(random.integers(0, width - w + 1)), int(random.integers(0, height - h + 1))
            if not taken[y : y + h, x : x + w].any():
                name = ("blue", "red")[int(random.integers(2))]
                pixels[y : y + h, x : x + w] = COLOURS[name]
                taken[y : y + h, x : x + w] = True
                objects.append((name, (x, y, x + w, y + h)))
                break
    return Image.fromarray(pixels), objects


def write_objects(folder, count=24, seed=0, empty=0, **how):
    """Write images and their table of boxes; return the table's path.

    Args:
        empty: each image of this number shows nothing, and says so; 0: none.
    """
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = ["image,label,x1,y1,x2,y2"]
    for i in range(count):
        nothing = {"most": 0, "least": 0} if empty and i % empty == 1 else {}
        image, objects = paint(random, **{**how, **nothing})
        image.save(folder / "images" / f"{i:02d}.png")
        own = [f"{name},{','.join(map(str, box))}" for name, box in objects] or [",,,,"]
        rows += [f"images/{i:02d}.png,{row}" for row in own]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


def write_net(path, size=SIZE):
    """Write a small network with a map at each stride from 2 to 32."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((size, size, 3) if isinstance(size, int) else (*size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    for i, filters in enumerate((8, 16, 16, 16, 16)):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    keras.Model(inputs, x).save(path)
    return str(path)
