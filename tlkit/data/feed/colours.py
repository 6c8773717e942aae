"""Mean and covariance of a data set's colours, for input normalisation."""

from __future__ import annotations

import numpy as np

from tlkit.backbones.colours import Colours
from tlkit.data.feed.examples import Examples

SAMPLE = 500
"""Images that are looked at: at 224 pixels a side 25 million colours, for nine numbers."""


def measure_colours(examples: Examples) -> Colours:
    """Return the statistics of (at most `SAMPLE`) training images, spread over the whole part."""
    step = max(1, len(examples) // SAMPLE)
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for images, _ in examples.batches(range(0, len(examples), step)):
        colours = np.asarray(images, np.float64).reshape(-1, 3)
        count += len(colours)
        total += colours.sum(axis=0)
        products += colours.T @ colours
    mean = total / count
    return Colours(mean, products / count - np.outer(mean, mean))
