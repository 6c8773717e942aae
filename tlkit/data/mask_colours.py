"""Colours of classes, and masks drawn over their images."""

from __future__ import annotations

import numpy as np

from tlkit.spec.coding import VOID

OPACITY = 0.5
"""Of classes over an image."""


def palette() -> np.ndarray:
    """Return the colours of 256 classes, uint8 (256, 3), as PASCAL VOC's masks have them.

    The bits of a number are dealt to red, green and blue in turn, the lowest to the highest place
    (Everingham et al. 2010, development kit, `VOClabelcolormap`); 0 is black.
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), int)
    for place in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            colours[:, channel] |= bit << (7 - place)
    return colours.astype(np.uint8)


def blended(image: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return an image with its classes over it, uint8 (height, width, 3).

    The first class, mostly the background, is left as it is; void is white.

    Args:
        image: (height, width, 3), 0-255.
        numbers: class numbers uint8 (height, width).
    """
    colours = palette()
    colours[VOID] = 255
    over = colours[numbers].astype(np.float32)
    opacity = np.where(numbers == 0, 0.0, OPACITY)[..., None]
    mixed = image.astype(np.float32) * (1 - opacity) + over * opacity
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)
