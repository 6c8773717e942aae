"""Does an export answer as its run does? Checked on real files, end to end, before it is kept."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tlkit.data.feed.dataset import open_spec
from tlkit.data.pictures.decode import decode, why_undecodable
from tlkit.errors import DataError, ParityError
from tlkit.export.savedmodel import SavedModel
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import check_files
from tlkit.spec.run import ARRAYS, RunSpec

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a number as a share of the largest one. Both sides
compute in float32, whose rounding through a hundred layers was seen to stay below 1e-5. Within it
labels can differ only where two probabilities are equal for all purposes."""

IMAGES = 32
"""Images that are compared."""


def made_up_images(count: int = IMAGES) -> list[bytes]:
    """Return PNG files for a run whose own images are gone.

    Smooth, since random noise makes every network answer alike.
    """
    random, images = np.random.default_rng(0), []
    for _ in range(count):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC).save(file, "PNG")
        images.append(file.getvalue())
    return images


def check_parity(exported: SavedModel, encoded: Sequence[bytes], expected: np.ndarray) -> float:
    """Compare an export with its run, through both signatures.

    Args:
        encoded: bytes of image files.
        expected: the run's outputs (n, outputs) for them.

    Returns:
        The largest difference.

    Raises:
        ParityError: it is above `TOLERANCE`.
    """
    answers = {
        "serving_default": exported.predict_bytes(encoded),
        "serve_pixels": np.concatenate(
            [
                exported.predict_pixels(decode(item, exported.rendering).numpy()[None])
                for item in encoded
            ]
        ),
    }
    worst, scale = 0.0, max(1.0, float(np.abs(expected).max()))
    for signature, got in answers.items():
        difference = float(np.abs(got - expected).max()) / scale
        worst = max(worst, difference)
        if not difference <= TOLERANCE:  # NaN is refused as well
            raise ParityError(
                f"export: {signature} does not answer as the run does; the export was removed. "
                f"Largest difference: {difference:.2g}, allowed: {TOLERANCE:g}"
            )
    return worst


def parity_images(folder: RunFolder, spec: RunSpec, progress: Progress) -> list[bytes]:
    """Return the bytes of images that the run knows, spread over its classes.

    Those that have moved or are damaged by now are left out; made-up ones stand for all if none is
    left.

    Raises:
        RunFolderError: scan.json is damaged, or not the run's own.
    """
    if ARRAYS in (spec.data, spec.val, spec.test):
        return made_up_images()
    check_files(folder, "scan.json")
    splits = folder.read_json("scan.json")["splits"]
    ids = splits["test"] or splits["val"]
    wanted = set(ids[:: max(1, len(ids) // IMAGES)][:IMAGES])
    try:
        parts = open_spec(spec, {}).parts.values()
        examples = [e for part in parts for e in part if e.id in wanted]
    except (DataError, OSError):
        examples = []
    found = []
    for example in examples:
        try:
            content = example.read()
            problem = why_undecodable(content)
        except (DataError, OSError) as error:
            problem = str(error)
        if problem:
            progress.say("left out", f"{example.id}: {problem}")
        else:
            found.append(content)
    if not found:
        progress.say("parity", "none of the run's own images is left: on made-up ones")
    return found or made_up_images()
