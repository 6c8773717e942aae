"""Statistics of colours, by which a backbone's input may be normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Colours:
    """Statistics of R, G and B in 0-255: mean (3,) and covariance (3, 3)."""

    mean: np.ndarray
    covariance: np.ndarray
