"""Near-duplicates: images that a person would call the same, though their bytes differ.

The perceptual hash is that of Zauner 2010 ("Implementation and Benchmarking of Perceptual Image
Hash Functions", section 3.2.1), as in ImageHash's `phash`: the signs of the 64 lowest frequencies
of the grey image at 32 x 32 pixels, about their median.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn

NEAR = 8
"""Bits of 64 in which the hashes of two images of one scene may differ. Measured on flowers5
(4,317 images at 128 pixels) and flowers12 (960 at 224): at 8, all copies that were compressed
anew at quality 40, halved, made grey or a quarter brighter are found, and 82-87% of those cropped
by 3% a side; among the images of flowers5 are 38 such pairs, 6 of them the same bytes, nearly
all others edited copies to the eye; at 10 it are 66, and strangers prevail among the new ones. The
difference hash reports 98 at 8."""

NO_HASH = -1
"""In the place of a hash: the image is flat."""

FLAT = 2.0
"""Deviation of grey levels (0-255) up to which an image counts as flat: its signs are noise."""

MAX_COMPARED = 200_000
"""Images up to which all pairs are compared: 2e10 comparisons, about a minute."""

_BLOCK = 256


def perceptual_hash(pixels: np.ndarray) -> int:
    """Return the 64-bit hash of a decoded image, from 0 to 2**64 - 1, or `NO_HASH`.

    Args:
        pixels: uint8 (height, width, 3), upright, as training sees them.
    """
    grey = Image.fromarray(pixels).convert("L")
    grey = grey.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    levels = np.asarray(grey, np.float32)
    if levels.std() <= FLAT:
        return NO_HASH
    low = dctn(levels)[:8, :8].ravel()
    return int(np.packbits(low > np.median(low)).view(np.uint64)[0])


def near_pairs(hashes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (i, j, differing bits) of all i < j with at most `NEAR` bits, the nearest first.

    Args:
        hashes: of images; those that are `NO_HASH` are near to nothing.

    Takes memory in proportion to n, time to n squared.
    """
    places = np.array([i for i, x in enumerate(hashes) if x != NO_HASH], int)
    known = np.array([hashes[i] for i in places], np.uint64)
    pairs = []
    for start in range(0, len(known), _BLOCK):
        block = known[start : start + _BLOCK]
        bits = np.bitwise_count(block[:, None] ^ known[None, start:])
        for row, column in zip(*np.nonzero(bits <= NEAR), strict=True):
            if column > row:
                i, j = places[start + row], places[start + column]
                pairs.append((int(i), int(j), int(bits[row, column])))
    return sorted(pairs, key=lambda pair: (pair[2], pair[0], pair[1]))
