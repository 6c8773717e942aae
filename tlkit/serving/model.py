"""What is served: a run or an export of any format, as one function of resized images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.compute.engines import WORTHWHILE, inference
from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import ExportError, RunFolderError, SpecError
from tlkit.export.opened import open_export
from tlkit.places import run_of
from tlkit.progress import Progress
from tlkit.reporting.saliency import Saliency, saliency
from tlkit.run import open_run
from tlkit.tasks.task import Task

AGREEING = 1e-3
"""Largest difference of an image's answer alone from that in a batch, as a share of the largest
magnitude: sums in another order differ by 1e-5, a wrong row by far more."""


@dataclass(frozen=True)
class Answer:
    """The answer to an image.

    Attributes:
        row: the model's output.
        explained: the name of the output that `heat` explains, where a map was asked for.
        heat: what speaks for it at each place, float32 (rows, columns), 0 to 1.
    """

    row: np.ndarray
    explained: str | None = None
    heat: np.ndarray | None = None


@dataclass(frozen=True)
class Served:
    """A run or an export, opened to be served.

    Attributes:
        name, version: as paths have them.
        kind: `run`, or the format of an export.
        task, size, rendering: of its answers, and of the images that it takes.
        outputs: from float32 (n, height, width, 3), RGB 0-255, to the model's outputs (n, ...).
        maps: gives maps of what speaks for an answer; None: there are none.
        why_no_maps: the reason for people; "": there are maps.
    """

    name: str
    version: int
    kind: str
    task: Task
    size: Size
    rendering: Rendering
    outputs: Callable[[np.ndarray], np.ndarray]
    maps: Saliency | None = None
    why_no_maps: str = ""

    def answers(self, images: np.ndarray, mapped: Sequence[bool]) -> list[Answer]:
        """Answer a batch.

        Args:
            images: float32 (n, height, width, 3), RGB 0-255.
            mapped: of which a map is asked for too.
        """
        rows = self.outputs(images)
        wanted = np.flatnonzero(mapped)
        if not len(wanted):
            return [Answer(row) for row in rows]
        features, _ = self.maps.answer(images[wanted])
        chosen = np.array([self.task.explained(row) for row in rows[wanted]])
        heats = dict(zip(wanted, self.maps.maps(features, chosen), strict=True))
        names = {i: self.task.outputs[number] for i, number in zip(wanted, chosen, strict=True)}
        return [Answer(row, names.get(i), heats.get(i)) for i, row in enumerate(rows)]


def open_served(path: Path, name: str, version: int, progress: Progress) -> Served:
    """Open a run folder or an export to be served; see `located` for its name and version.

    Raises:
        RunFolderError, ExportError: it is none, or is damaged.
        SpecError: Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise SpecError(
            "serve: needs the TensorFlow backend. Allowed: KERAS_BACKEND=tensorflow (the run "
            f"folder works with every backend). Received: {keras.backend.backend()}"
        )
    if (run_of(path) / "spec.yaml").is_file():
        return _run(path, name, version, progress)
    return _export(path, name, version)


def _run(path: Path, name: str, version: int, progress: Progress) -> Served:
    run = open_run(path)
    run.say_state(progress)
    model, task = run.answering(), run.answered()
    maps, why = _maps(model, task)
    function = inference(model, WORTHWHILE)
    return Served(name, version, "run", task, run.spec.size, run.rendering, function, maps, why)


def _maps(model: keras.Model, task: Task) -> tuple[Saliency | None, str]:
    """Return what gives maps, or why there is none."""
    if task.explained(np.zeros(task.numbers)) is None:
        return None, f"answers of the task {task.name} have no map of what speaks for them"
    try:
        return saliency(model), ""
    except RunFolderError as error:
        return None, str(error).removeprefix("explain: ")


def _export(path: Path, name: str, version: int) -> Served:
    export = open_export(path)
    about = export.about
    return Served(
        *(name, version, about.kind, about.task, about.size, about.rendering),
        export.opened.predict_resized,
        why_no_maps="an export has no map of what speaks for an answer: serve the run folder",
    )


def warm_up(served: Served, most: int, progress: Progress) -> dict[int, float]:
    """Answer batches of each size that will occur, and check that each answers alike.

    Returns:
        Seconds of a batch, by its size.

    Raises:
        ExportError, RunFolderError: an answer is not finite, or is another in a batch.
    """
    images = np.random.default_rng(0).uniform(0, 255, (most, *sides(served.size), 3))
    images = images.astype(np.float32)
    sizes = [2**i for i in range(most.bit_length())]
    with progress.bar("warm-up", "sizes of batches", len(sizes)) as advance:
        seconds = {}
        for size in sizes:
            seconds[size] = _timed(served, images[:size])
            advance()
    if served.maps:
        served.answers(images[:1], [True])
    return seconds


def _timed(served: Served, images: np.ndarray) -> float:
    """Return the seconds of a batch whose last answer is that to the image alone; see `warm_up`."""
    for _ in range(2):  # the first call of a size makes plans for it
        start = time.perf_counter()
        last = served.outputs(images)[-1]
        seconds = time.perf_counter() - start
    alone = served.outputs(images[-1:])[0]
    allowed = AGREEING * max(1e-6, float(np.abs(alone).max()))
    if not float(np.abs(last - alone).max()) <= allowed:  # NaN as well
        error = RunFolderError if served.kind == "run" else ExportError
        raise error(
            f"serve {served.name}: is not served, since its answer to an image in a batch of "
            f"{len(images)} is not that to the image alone"
        )
    return seconds


def described(served: Served) -> dict[str, Any]:
    """Return what is said of it to people, and to the page."""
    return {
        "name": served.name,
        "version": served.version,
        "kind": served.kind,
        "task": served.task.name,
        "outputs": list(served.task.outputs),
        "size": served.size,
        "maps": served.maps is not None,
        "why_no_maps": served.why_no_maps,
        "masks": served.task.maps,
        "boxes": served.task.finds or "box" in served.task.fields,
    }
