"""Runs a model over examples."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from tlkit.engines import inference
from tlkit.progress import Progress


def outputs(
    model: keras.Model, batches: Iterable, examples: int, progress: Progress, label: str
) -> np.ndarray:
    """Return the model's outputs float32 (examples, outputs), in the order of `batches`.

    Args:
        batches: pairs of images (n, size, size, 3), 0-255, and targets.
    """
    function, parts = inference(model, examples), []
    with progress.bar(label, "pictures", examples) as advance:
        for images, _ in batches:
            parts.append(np.asarray(function(np.asarray(images))))
            advance(len(parts[-1]))
    return np.concatenate(parts).astype(np.float32)
