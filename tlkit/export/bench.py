"""How quick exports are, how large, and how accurate: side by side, in one go."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones.sides import sides
from tlkit.errors import SpecError
from tlkit.export.opened import BATCH, Export, open_export
from tlkit.progress import Progress, as_progress

ROUNDS, CALLS = 7, 5
"""Rounds in which each export has its turn, so that a busy machine slows all alike, after one that
is not timed; and single images in each."""


def bench(
    exports: Sequence[str | Path],
    data: Any = None,
    *,
    batch_size: int = BATCH,
    progress: bool | Progress = True,
) -> list[dict[str, Any]]:
    """Measure exports side by side, on this machine's CPU (TensorFlow: where it would run).

    What is timed is the network alone, RGB pixels at its size in, answers out: decoding and
    resizing are the same for all.

    Args:
        data: labelled images as `Export.evaluate` takes them; None: nothing is evaluated.
        batch_size: images that are given at once for the throughput; LiteRT takes them one by one.

    Returns:
        For each export, in the order given, `path`, `format`, `megabytes` (10^6 bytes of the
        network's files), `latency_ms` (median of a single image), `images_per_second` (median over
        batches), `batch_size`, `headline` and `metrics` (of `data`, else None).

    Raises:
        ExportError: one is no export, or of an earlier version.
        SpecError: one is named twice.
    """
    shown = as_progress(progress)
    twice = [str(path) for path in dict.fromkeys(exports) if list(exports).count(path) > 1]
    if twice:
        raise SpecError(f"bench: each export once. Received twice: {', '.join(twice)}")
    opened = [open_export(path) for path in exports]
    asked = opened if data is not None else []
    measured = [export.evaluate(data, progress=shown) for export in asked]
    singles, batches = _timed(opened, batch_size, shown)
    rows = []
    for i, export in enumerate(opened):
        metrics = measured[i] if measured else None
        rows.append(
            {
                "path": str(export.path),
                "format": export.about.kind,
                "megabytes": round(export.bytes() / 1e6, 3),
                "latency_ms": round(1000 * statistics.median(singles[i]), 3),
                "images_per_second": round(batch_size / statistics.median(batches[i]), 1),
                "batch_size": batch_size,
                "headline": export.about.task.headline(metrics) if metrics else None,
                "metrics": metrics,
            }
        )
    return rows


def _timed(
    opened: Sequence[Export], batch_size: int, progress: Progress
) -> tuple[list[list[float]], list[list[float]]]:
    """Return for each export the seconds of single images, and of batches."""
    singles, batches = [[] for _ in opened], [[] for _ in opened]
    random = np.random.default_rng(0)
    sizes = {export.about.size for export in opened}
    shapes = {size: (batch_size, *sides(size), 3) for size in sizes}
    pixels = {s: random.uniform(0, 255, shapes[s]).astype(np.float32) for s in sizes}
    with progress.bar("bench", "rounds", (ROUNDS + 1) * len(opened)) as advance:
        for round_ in range(ROUNDS + 1):
            for i, export in enumerate(opened):
                images = pixels[export.about.size]
                alone = [_seconds(export, images[:1]) for _ in range(CALLS)]
                together = _seconds(export, images)
                if round_:
                    singles[i] += alone
                    batches[i].append(together)
                advance(1)
    return singles, batches


def _seconds(export: Export, images: np.ndarray) -> float:
    start = time.perf_counter()
    export.opened.predict_resized(images)
    return time.perf_counter() - start
