"""Writes an export beside its place, checks it, and only then puts it there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.atomic import folder_draft
from tlkit.data.pictures.decode import traced_decode_and_resize
from tlkit.errors import ExportError, SpecError
from tlkit.export.about import BESIDE, About
from tlkit.export.card import write_card
from tlkit.export.formats import check_installed, lookup, writer_of
from tlkit.export.network import in_float32
from tlkit.export.opened import open_file
from tlkit.export.parity import AGREEMENT, Parity, check_parity, known_images, parity_images
from tlkit.places import check_free
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import file_digest
from tlkit.spec.run import RunSpec

CALIBRATION = 200
"""Training images that 8-bit ranges are measured on: for full integer quantization, TensorFlow's
guide "Post-training quantization" asks for around 100 to 500."""


@dataclass(frozen=True)
class Exported:
    """What is exported, and what it is held against.

    Attributes:
        model: of the run; float32 or not.
        about: what the export will say of itself.
        folder, spec: of the run, whose images it is checked on.
        answerer: from a model to what answers encoded images as the run does.
        metrics: content of the run's `metrics.json`, for the model card; None: it has none yet.
    """

    model: keras.Model
    about: About
    folder: RunFolder
    spec: RunSpec
    answerer: Callable[[keras.Model], Callable[[Sequence[bytes]], np.ndarray]]
    metrics: dict[str, Any] | None


def export_checked(run: Exported, out: Path, agreement: float | None, progress: Progress) -> None:
    """Write an export to `out` if it answers as the run does.

    Args:
        out: a new or empty folder.
        agreement: see `check_parity`; None: `AGREEMENT`.

    Raises:
        ParityError: it answers otherwise; nothing is left.
        ExportError: `out` cannot be written, or the network cannot be converted.
    """
    about, model = run.about, run.model
    encoded = parity_images(run.folder, run.spec, progress)
    if about.kind != "savedmodel" and (whole := in_float32(model)) is not model:
        progress.say("export", f"{about.kind} computes in float32, which the run did not")
        model = whole
    calibration = partial(_calibration, run, progress)
    try:
        with folder_draft(out, partial(progress.say, "export")) as draft:
            progress.say("export", f"{out}: writing {about.kind}")
            writer_of(about.kind)(model, about, draft, calibration)
            opened = open_file(about.kind, draft / lookup(about.kind).file)
            expected = run.answerer(model)(encoded)
            parity = check_parity(opened, about, encoded, expected, agreement or AGREEMENT)
            _describe(run, parity, draft)
    except OSError as error:
        raise ExportError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    progress.say("parity", parity.line())


def _describe(run: Exported, parity: Parity, draft: Path) -> None:
    """Write `export.json` and the model card beside what was written and checked."""
    files = sorted(file for file in draft.rglob("*") if file.is_file())
    digests = {file.relative_to(draft).as_posix(): file_digest(file) for file in files}
    described = {**run.about.to_json(), "parity": parity.to_json(), "files": digests}
    text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    (draft / BESIDE).write_text(text, encoding="utf-8")
    write_card(run.about, parity, run.metrics, draft)


def _calibration(run: Exported, progress: Progress) -> list[np.ndarray]:
    """Return resized training images.

    Raises:
        ExportError: none of them can be read.
    """
    encoded = known_images(run.folder, run.spec, ("train",), CALIBRATION, progress)
    if not encoded:
        raise ExportError(
            f"export {run.about.kind}: needs the run's training images to measure ranges on, and "
            "none can be read. Allowed: the other formats, or put the images back"
        )
    progress.say("calibrate", f"on {len(encoded)} training images")
    decode = traced_decode_and_resize(run.about.size, run.about.rendering)
    return [decode(item).numpy() for item in encoded]


def target_of(out: Path, kind: str, serving_version: int | None, agreement: float | None) -> Path:
    """Return where an export of this format goes, all of its options checked.

    Args:
        serving_version: of TensorFlow Serving's folder, which holds a folder for each version.

    Raises:
        ExportError: the format is unknown or not installed, or the place is taken.
        SpecError: an option has no effect on the format.
    """
    about = lookup(kind)
    if serving_version is not None:
        if kind != "savedmodel":
            raise SpecError(
                "--serving-version: is for TensorFlow Serving, which reads savedmodel alone. "
                f"Received: --format {kind}"
            )
        if serving_version < 1:
            raise SpecError(f"--serving-version: must be 1 or more. Received: {serving_version}")
        out = out / str(serving_version)
    if agreement is not None:
        if not about.calibrated:
            raise SpecError(
                f"--agreement: has no effect on {kind}, whose numbers are compared. Allowed: with "
                f"litert-int8. Received: {agreement}"
            )
        if not 0 < agreement <= 1:
            raise SpecError(f"--agreement: must lie above 0, up to 1. Received: {agreement}")
    check_installed(kind, writing=True)
    check_free(out, error=ExportError)
    return out
