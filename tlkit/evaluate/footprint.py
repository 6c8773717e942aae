"""What a model takes where it is used: time for an image, and room on disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

CALLS, WARM_CALLS = 15, 3
"""Timed calls, of which the median counts, after some untimed ones, which trace the graph."""


def latency(model: keras.Model) -> float:
    """Return milliseconds for one image, as Keras predicts it."""
    image = np.zeros((1, *model.input_shape[1:]), np.float32)
    taken = []
    for _ in range(WARM_CALLS + CALLS):
        start = time.perf_counter()
        model.predict_on_batch(image)
        taken.append(time.perf_counter() - start)
    return round(1000 * statistics.median(taken[WARM_CALLS:]), 2)


def saved_megabytes(model: keras.Model) -> float:
    """Return the size of the saved model, in 10^6 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return round(path.stat().st_size / 1e6, 2)
