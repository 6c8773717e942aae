"""Features standardised and turned into their principal directions, a chunk at a time.

What does not fit into a few megabytes lies in a mapped file: memory does not grow with the number
of images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.places import cache_folder

RANK_TOLERANCE = 1e-6
"""Directions whose variance is below this share of the largest are noise and left out."""

IN_MEMORY = 2**24
"""Bytes from which turned features lie in a mapped file; 3,000 of 1,280 numbers are below."""

CHUNK = 4096
"""Rows that are worked on at a time."""


@dataclass(frozen=True)
class Rotation:
    """A change of coordinates: `(features - mean) @ basis`.

    Attributes:
        mean: of each feature (features,).
        basis: (features, rank); the columns are orthogonal where features are standardised.
        variances: of the turned features, along each direction (rank,).
    """

    mean: np.ndarray
    basis: np.ndarray
    variances: np.ndarray

    def turn(self, x: Any) -> np.ndarray:
        """Return the features `x`, an array or `Rows`, turned: float32 (n, rank)."""
        shape = (len(x), self.basis.shape[1])
        out = _mapped(shape) if 4 * shape[0] * shape[1] > IN_MEMORY else np.empty(shape, np.float32)
        for rows in chunks(len(x)):
            out[rows] = (x[rows] - self.mean) @ self.basis
        return out


def fit_rotation(x: Any) -> Rotation:
    """Return the rotation into the principal directions of standardised features.

    A rotation leaves an L2 penalty as it is; in these directions the problem's curvature is known
    well enough to be divided out, and with fewer examples than features it becomes smaller.

    Args:
        x: features float32 (n, features), an array or `Rows`.
    """
    n, d = len(x), x[:1].shape[1]
    mean = sum(x[rows].sum(axis=0, dtype=np.float64) for rows in chunks(n)) / n
    mean = mean.astype(np.float32)
    if n < d:
        centred = x[:] - mean
        scale = _usable(centred.std(axis=0))
        centred /= scale
        variances, left = np.linalg.eigh(centred @ centred.T / n)
        kept = variances > RANK_TOLERANCE * variances[-1]
        directions = centred.T @ (left[:, kept] / np.sqrt(variances[kept] * n))
    else:
        covariance = np.zeros((d, d))
        for rows in chunks(n):
            centred = x[rows] - mean
            covariance += centred.T @ centred
        covariance /= n
        scale = _usable(np.sqrt(np.diag(covariance)))
        covariance = (covariance / scale / scale[:, None]).astype(np.float32)
        variances, directions = np.linalg.eigh(covariance)
        kept = variances > RANK_TOLERANCE * variances[-1]
        directions = directions[:, kept]
    basis = (directions / scale[:, None]).astype(np.float32)
    return Rotation(mean, basis, variances[kept].astype(np.float32))


def chunks(n: int) -> Iterator[slice]:
    """Yield slices that cut `n` rows into chunks."""
    return (slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def _usable(scale: np.ndarray) -> np.ndarray:
    # A feature that never changes carries nothing; dividing by its zero would make it infinite.
    return np.where(scale > 1e-6, scale, np.inf).astype(np.float32)


def _mapped(shape: tuple[int, int]) -> np.ndarray:
    """Return an array in a file below the cache folder, which goes when the array does.

    If that folder takes nothing, the file lies where the system keeps such.
    """
    folder: Path | None = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = None
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
