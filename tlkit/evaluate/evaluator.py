"""Runs a model over examples."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import keras
import numpy as np

from tlkit.compute.engines import inference
from tlkit.compute.memory import halving
from tlkit.data.feed.examples import Examples
from tlkit.progress import Progress


def outputs(
    model: keras.Model, batches: Iterable, examples: int, progress: Progress, label: str
) -> np.ndarray:
    """Return the model's outputs float32 (examples, outputs), in the order of `batches`.

    Args:
        batches: pairs of images (n, size, size, 3), 0-255, and targets; for a model of several
            inputs the former is a tuple.
    """
    function, parts = inference(model, examples), []
    with progress.bar(label, "pictures", examples) as advance:
        for images, _ in batches:
            parts.append(np.asarray(function(keras.tree.map_structure(np.asarray, images))))
            advance(len(parts[-1]))
    return np.concatenate(parts).astype(np.float32)


def outputs_of(model: keras.Model, part: Examples, progress: Progress, label: str) -> np.ndarray:
    """Return the model's outputs for a part, in smaller batches where memory runs out."""

    def answer(size: int) -> np.ndarray:
        pictures = part.batched(size).pictures(range(len(part)))
        return outputs(model, pictures, len(part), progress, label)

    return halving(answer, part.batch_size, label, partial(progress.say, label))
