"""Measures on labelled images whatever answers them: a run's model, or an export."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones.sides import Size
from tlkit.compute.memory import halving
from tlkit.data.column import read_by
from tlkit.data.example import Example
from tlkit.data.feed.pipeline import batches
from tlkit.data.feed.say import resized_text
from tlkit.data.membership import Known, count, reasons
from tlkit.data.pictures.rendering import Rendering
from tlkit.data.scan.box_frames import say_boxes
from tlkit.data.scan.pixel_facts import pixel_facts, say_facts
from tlkit.data.scan.scan import scan
from tlkit.errors import DataError
from tlkit.evaluate.evaluator import answered_by, evaluator_of, measured
from tlkit.evaluate.tiles import Tiling
from tlkit.progress import Progress
from tlkit.reporting.written import write_evaluation
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.task import Task

Listed = tuple[list[Example], list[str], str | None]
"""Examples, notes on them, and the part that they are; see `open_labelled`."""

Recognise = Callable[[list[Example], list[Example], dict[str, str]], Known]
"""From all examples, the usable ones and their hashes to those that are known from training."""


@dataclass(frozen=True)
class Answering:
    """What answers images.

    Attributes:
        task: of the answers.
        size, rendering: how images are resized and decoded.
        batch_size: halved where memory runs out.
        function: given how many images there will be, returns what answers a batch of them.
        tile: side of tiles that images are answered in; None: each is answered as a whole.
    """

    task: Task
    size: Size
    rendering: Rendering
    batch_size: int
    function: Callable[[int], Callable[[np.ndarray], Any]]
    tile: int | None = None


def evaluate_on(
    answering: Answering,
    listed: Listed,
    recognised: Recognise | None,
    progress: Progress,
    out: str | Path | None,
    csv: str | Path | None,
) -> dict[str, Any]:
    """Return the task's metrics, all of them, and what was left out; see `Run.evaluate`.

    Args:
        recognised: None where it is not known what was trained on.
        out, csv: see `write_evaluation`.

    Raises:
        DataError: there is no usable image.
    """
    examples, notes, part = listed
    for note in notes:
        progress.say("note", note)
    how = {"rendering": answering.rendering, "size": answering.size}
    found = scan(examples, progress, **how, empties=answering.task.labels.empties)
    say_boxes(found.annotations.report, progress)
    say_facts(pixel_facts(found), len(found.digests), progress, options=False)
    if found.resized:
        progress.say("masks", resized_text(found.resized, len(found.labels)))
    examples = found.hashed(examples)
    usable = [e for e in examples if e.id in found.digests]
    if not usable:
        raise DataError(f"evaluation data: no usable images. Received: {len(examples)} files")
    known = {} if recognised is None else recognised(examples, usable, found.digests)
    usable = [e for e in usable if e.id not in known]
    with found.reading.told():
        how = _measured if answering.tile is None else _measured_in_tiles
        taken = how(answering, usable, found.reading, progress)
    left_out = sorted((found.left_out | reasons(known)).items())
    result = {
        **taken.result(),
        "part": part,
        "left_out": [{"id": id_, "reason": why} for id_, why in left_out],
        "seen_in_training": None if recognised is None else count(known, "train"),
        "seen_in_validation": None if recognised is None else count(known, "val"),
    }
    write_evaluation(taken, result, out, csv, progress)
    return result


def _measured(
    answering: Answering, usable: Sequence[Example], reading: Any, progress: Progress
) -> Evaluator:
    task = answering.task
    targets = read_by(task.encode([e.label for e in usable]), reading)
    how = {"rendering": answering.rendering, "reading": reading}

    def answer(batch: int) -> Evaluator:
        function = answering.function(len(usable))
        images = batches(usable, targets, answering.size, batch, **how)
        answers = answered_by(function, images, len(usable), progress, "evaluate")
        return measured(task, usable, targets, answers, answering.rendering)

    say = functools.partial(progress.say, "evaluate")
    return halving(answer, answering.batch_size, "evaluate", say)


def _measured_in_tiles(
    answering: Answering, usable: Sequence[Example], reading: Any, progress: Progress
) -> Evaluator:
    """Return the evaluator of maps of the images' own sizes, one after the other."""
    task, rendering = answering.task, answering.rendering
    targets = read_by(task.encode([e.label for e in usable]), reading)
    function = answering.function(len(usable))
    tiled = Tiling(function, task, answering.size, rendering, answering.tile)
    taken = evaluator_of(task, usable, rendering)
    with progress.bar("evaluate", "images in tiles", len(usable)) as advance:
        for i, example in enumerate(usable):
            (given,) = tiled([reading.read(example)])
            taken.update([example.id], [example.label], targets.read(i)[None, ..., 0], given[None])
            advance()
    tiled.say(progress)
    return taken
