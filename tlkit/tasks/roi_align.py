"""Feature maps read at boxes: RoIAlign, by products of matrices alone.

Bilinear interpolation, and the mean over the points of a bin, are linear and act on rows and
columns apart; so a box is two matrices, one for each side of the map. Nothing is gathered, and the
same lines run in NumPy and in the graphs of every backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

SAMPLES = 2
"""Points along each side of a bin, whose mean it is (He et al. 2017, Mask R-CNN, section 3: four
points a bin)."""


def weights_at(low: Any, high: Any, bins: int, length: int, xp: Any, samples: int = SAMPLES) -> Any:
    """Return how much each row (or column) of a map counts in each bin of boxes.

    A cell's value is that of its middle; points beyond the middle of the outermost cells have their
    value.

    Args:
        low, high: edges of the boxes (..., boxes), as fractions of the map's side.
        length: rows of the map.
        xp: `numpy` or `keras.ops`.

    Returns:
        float32 (..., boxes, bins, length); each bin's weights sum up to 1.
    """
    points = ((np.arange(bins * samples) + 0.5) / (bins * samples)).astype(np.float32)
    cells = np.arange(length, dtype=np.float32)
    at = low[..., None] + (high - low)[..., None] * points
    at = xp.clip(at * float(length) - 0.5, 0.0, float(length - 1))
    weights = xp.maximum(1.0 - xp.abs(at[..., None] - cells), 0.0)
    form = (*([-1] if len(low.shape) > 1 else []), low.shape[-1], bins, samples, length)
    return xp.mean(xp.reshape(weights, form), axis=-2)


def position_sensitive(maps: Any, boxes: Any, bins: int) -> Any:
    """Return the sum over bins, each read off channels of its own (Dai et al. 2016, R-FCN, section
    3).

    What a linear layer answers to `vectors` is this, of maps to which the layer's weights for each
    bin were applied first: some numbers a cell instead of hundreds a window.

    Args:
        maps: (batch, height, width, bins * bins * outputs), rows of bins before columns.
        boxes: (batch, boxes, 4): x1, y1, x2, y2 as fractions of width and height.
        bins: along each side of a box.

    Returns:
        (batch, boxes, outputs).
    """
    ops = keras.ops
    height, width, channels = maps.shape[1:]
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    down = weights_at(y1, y2, bins, height, ops)
    across = weights_at(x1, x2, bins, width, ops)
    maps = ops.reshape(maps, (-1, height, width, bins, bins, channels // bins**2))
    rows = ops.einsum("bpyh,bhwyxo->bpwxo", down, maps)
    return ops.einsum("bpxw,bpwxo->bpo", across, rows)


def vectors(maps: np.ndarray, boxes: np.ndarray, bins: int) -> np.ndarray:
    """Return what the maps of one image hold in bins of boxes (He et al. 2017, section 3), rows
    before columns, flat: float32 (boxes, bins * bins * channels).

    Args:
        maps: (height, width, channels).
        boxes: (boxes, 4), bins: as for `position_sensitive`.
    """
    height, width, channels = maps.shape
    boxes = boxes.astype(np.float32)
    down = weights_at(boxes[:, 1], boxes[:, 3], bins, height, np).reshape(-1, height)
    across = weights_at(boxes[:, 0], boxes[:, 2], bins, width, np)
    rows = (down @ maps.reshape(height, -1)).reshape(len(boxes), bins, width, channels)
    return np.matmul(across[:, None], rows).reshape(len(boxes), -1)
