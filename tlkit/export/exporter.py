"""Writes an export beside its place, checks it, and only then puts it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np

from tlkit.atomic import folder_draft
from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import ExportError
from tlkit.export.parity import check_parity
from tlkit.export.savedmodel import SavedModel, write_savedmodel
from tlkit.places import check_free
from tlkit.progress import Progress
from tlkit.tasks.task import Task

FORMATS = ("savedmodel",)


def export_checked(
    model: keras.Model,
    task: Task,
    rendering: Rendering,
    out: Path,
    encoded: Sequence[bytes],
    answer: Callable[[Sequence[bytes]], np.ndarray],
    progress: Progress,
) -> None:
    """Write a SavedModel to `out` if it answers as the run does.

    Args:
        rendering: how the run decodes transparency and 16-bit samples.
        out: a new or empty folder.
        encoded: bytes of image files to compare on.
        answer: the run's own outputs (n, outputs) for encoded images.

    Raises:
        ParityError: it answers otherwise; nothing is left.
        ExportError: `out` cannot be written.
    """
    try:
        with folder_draft(out, partial(progress.say, "export")) as draft:
            progress.say("export", f"{out}: writing")
            write_savedmodel(model, task, rendering, draft)
            difference = check_parity(SavedModel(draft), encoded, answer(encoded))
    except OSError as error:
        raise ExportError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    progress.say(
        "parity", f"{len(encoded)} images answered alike, largest difference {difference:.1g}"
    )


def check_target(out: Path, kind: str) -> None:
    """Check that an export of this format can be written to `out`.

    Raises:
        ExportError: the format is unknown, or `out` holds something or cannot be made.
    """
    if kind not in FORMATS:
        raise ExportError(f"format: unknown. Allowed: {', '.join(FORMATS)}. Received: {kind!r}")
    check_free(out, error=ExportError)
