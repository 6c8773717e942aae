"""Does an export answer as its run does? Checked on real files, end to end, before it is kept."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tlkit.data.feed.dataset import open_spec
from tlkit.data.pictures.decode import why_undecodable
from tlkit.errors import DataError, ParityError
from tlkit.export.about import About, Answered
from tlkit.export.formats import lookup
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import check_files
from tlkit.spec.run import ARRAYS, RunSpec

IMAGES = 100
"""Images that are compared."""

AGREEMENT = 0.99
"""Smallest agreement with the run, see `Task.agreement`. Of formats that compute in floating point
it follows from their tolerance; 8-bit integers are held to it alone."""


class Answers(Protocol):
    """An opened export."""

    def answers(self, encoded: Sequence[bytes]) -> dict[str, Answered]:
        """Return all that is answered for encoded images, by what it is asked through."""


@dataclass(frozen=True)
class Parity:
    """How an export compared with its run.

    Attributes:
        images: how many were compared.
        largest_difference: of a probability, or of a number as a share of the largest one.
        agreement: see `Task.agreement`.
        tolerance, least: what was allowed of the two.
    """

    images: int
    largest_difference: float
    agreement: float
    tolerance: float
    least: float

    def line(self) -> str:
        """Return it in words."""
        return (
            f"{self.images} images answered alike, largest difference "
            f"{self.largest_difference:.1g}, agreement {self.agreement:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `tolerance` is None where agreement alone was asked."""
        bounded = np.isfinite(self.tolerance)
        return {**asdict(self), "tolerance": self.tolerance if bounded else None}


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


def check_parity(
    opened: Answers, about: About, encoded: Sequence[bytes], expected: np.ndarray, least: float
) -> Parity:
    """Compare an export with its run, through all that it can be asked.

    Args:
        encoded: bytes of image files.
        expected: the run's outputs (n, ...) for them.
        least: smallest agreement.

    Raises:
        ParityError: the outputs differ by more than the format's tolerance, agree less than
            `least`, or what else is answered (`Task.answer`) does not follow from them.
    """
    task, tolerance = about.task, lookup(about.kind).tolerance
    worst, lowest, scale = 0.0, 1.0, max(1.0, float(np.abs(expected).max()))
    for through, (sizes, outputs) in opened.answers(encoded).items():
        others = {k: np.asarray(value) for k, value in task.answer(expected, sizes).items()}
        others.pop(task.answers)
        if task.finds:  # what formats without suppression do not list
            listed = task.listed(expected, sizes).items()
            others |= {k: value for k, value in listed if k in outputs}
        got = outputs[task.answers].astype(np.float32)
        difference = float(np.abs(got - expected).max()) / scale
        agreement = task.agreement(expected, got)
        # NaN is refused as well.
        if not difference <= tolerance:
            problem = f"Largest difference: {difference:.2g}, allowed: {tolerance:g}"
        elif not agreement >= least:
            problem = f"Agreement: {agreement:.3f} of {len(encoded)} images, at least: {least:g}"
        else:
            wrong = [k for k, own in others.items() if not _close(own, outputs.get(k), 1 - least)]
            problem = f"Otherwise: {', '.join(wrong)}" if wrong else ""
        if problem:
            raise ParityError(
                f"export: {through} does not answer as the run does; the export was removed. "
                f"{problem}"
            )
        worst, lowest = max(worst, difference), min(lowest, agreement)
    return Parity(len(encoded), worst, lowest, tolerance, least)


def _close(expected: np.ndarray, got: np.ndarray | None, allowed: float) -> bool:
    """Tell whether two arrays differ on average by no more than a share of the largest number."""
    if got is None or got.shape != expected.shape:
        return False
    own, other = expected.astype(np.float64), got.astype(np.float64)
    return bool(np.abs(own - other).mean() <= allowed * max(1.0, np.abs(own).max()))


def parity_images(folder: RunFolder, spec: RunSpec, progress: Progress) -> list[bytes]:
    """Return the bytes of images that the run did not train on, spread over its classes.

    Made-up ones stand for all if none is left.

    Raises:
        RunFolderError: scan.json is damaged, or not the run's own.
    """
    found = known_images(folder, spec, ("test", "val"), IMAGES, progress)
    if not found and ARRAYS not in (spec.data, spec.val, spec.test):
        progress.say("parity", "none of the run's own images is left: on made-up ones")
    return found or made_up_images()


def known_images(
    folder: RunFolder, spec: RunSpec, parts: Sequence[str], count: int, progress: Progress
) -> list[bytes]:
    """Return the bytes of up to `count` images of the first of `parts` that has any.

    Those that have moved or are damaged by now are left out; of a run on arrays there is none.

    Raises:
        RunFolderError: scan.json is damaged, or not the run's own.
    """
    if ARRAYS in (spec.data, spec.val, spec.test):
        return []
    check_files(folder, "scan.json")
    splits = folder.read_json("scan.json")["splits"]
    ids = next((splits[part] for part in parts if splits[part]), [])
    # Evenly from the beginning to the end, since they are in the order of classes.
    wanted = {ids[i * len(ids) // min(count, len(ids))] for i in range(min(count, len(ids)))}
    try:
        listed = open_spec(spec, {}).parts.values()
        examples = [e for part in listed for e in part if e.id in wanted]
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
    return found
