"""Does an export answer as its run does? Checked on real files, end to end, before it is kept."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tlkit.data.decode import decode
from tlkit.errors import ParityError
from tlkit.export.savedmodel import SavedModel

TOLERANCE = 1e-4
"""Largest difference of a probability. Both sides compute in float32, whose rounding through a
hundred layers was seen to stay below 1e-5."""

PICTURES = 32
"""Pictures that are compared."""


def made_up_pictures(count: int = PICTURES) -> list[bytes]:
    """Return PNG files for a run whose own pictures are gone.

    Smooth, since random noise makes every network answer alike.
    """
    random, pictures = np.random.default_rng(0), []
    for _ in range(count):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC).save(file, "PNG")
        pictures.append(file.getvalue())
    return pictures


def check_parity(exported: SavedModel, encoded: Sequence[bytes], expected: np.ndarray) -> float:
    """Compare an export with its run, through both signatures.

    Args:
        encoded: bytes of picture files.
        expected: the run's probabilities (n, classes) for them.

    Returns:
        The largest difference of a probability.

    Raises:
        ParityError: it is above `TOLERANCE`, or a label differs.
    """
    answers = {
        "serving_default": exported.predict_bytes(encoded),
        "serve_pixels": np.concatenate(
            [exported.predict_pixels(decode(item).numpy()[None]) for item in encoded]
        ),
    }
    worst = 0.0
    for signature, got in answers.items():
        difference = float(np.abs(got - expected).max())
        worst = max(worst, difference)
        # A label may differ only where two probabilities are equal within the tolerance.
        chosen = expected[np.arange(len(got)), got.argmax(axis=1)]
        label_off = bool((expected.max(axis=1) - chosen > 2 * TOLERANCE).any())
        if not difference <= TOLERANCE or label_off:
            raise ParityError(
                f"export: {signature} does not answer as the run does; the export was removed. "
                f"Largest difference of a probability: {difference:.2g}, allowed: {TOLERANCE:g}"
            )
    return worst
