"""Runs a model over examples, and measures its answers batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import keras
import numpy as np

from tlkit.compute.engines import inference
from tlkit.compute.memory import halving
from tlkit.data.column import Column
from tlkit.data.example import Example
from tlkit.data.feed.examples import Examples
from tlkit.data.pictures.decode import UNDECODABLE, pixels_as_stored, upright
from tlkit.data.pictures.header import read_header
from tlkit.data.pictures.rendering import PLAIN, Rendering, blend_array
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.task import Task

T = TypeVar("T")

Consume = Callable[[Iterator[np.ndarray]], T]
"""What is made of outputs float32 (n, ...), batch after batch; begun anew with smaller batches
where memory runs out."""


def answered(
    model: keras.Model, batches: Iterable, examples: int, progress: Progress, label: str
) -> Iterator[np.ndarray]:
    """Yield the model's outputs float32 (n, ...) for each of `batches`.

    Args:
        batches: tuples that begin with images (n, size, size, 3), 0-255, several inputs of the
            model as a tuple.
        examples: how many are in all of them.
    """
    return answered_by(inference(model, examples), batches, examples, progress, label)


def answered_by(
    function: Callable, batches: Iterable, examples: int, progress: Progress, label: str
) -> Iterator[np.ndarray]:
    """Yield what a function of a batch of images gives, see `answered`."""
    with progress.bar(label, "images", examples) as advance:
        for images, *_ in batches:
            given = keras.tree.map_structure(np.asarray, images)
            rows = np.asarray(function(given)).astype(np.float32)
            advance(len(rows))
            yield rows


def together(answers: Iterator[np.ndarray]) -> np.ndarray:
    """Return all outputs in one array (examples, ...)."""
    return np.concatenate(list(answers))


def measured(
    task: Task,
    examples: Sequence[Example],
    targets: Column,
    answers: Iterator[np.ndarray],
    rendering: Rendering = PLAIN,
) -> Evaluator:
    """Return the task's evaluator, with all of `examples` taken.

    Args:
        targets, answers: of the examples, in order.
        rendering: how the images are shown where some are drawn.
    """
    found, start = evaluator_of(task, examples, rendering), 0
    for rows in answers:
        stop = start + len(rows)
        own = examples[start:stop]
        ids, labels = [e.id for e in own], [e.label for e in own]
        found.update(ids, labels, targets[start:stop], rows)
        start = stop
    return found


def evaluator_of(task: Task, examples: Sequence[Example], rendering: Rendering) -> Evaluator:
    """Return the task's evaluator, which finds the images of `examples` where it draws some."""
    found = task.evaluator()
    found.original = partial(original, {e.id: e for e in examples}, rendering)
    return found


def original(examples: dict[str, Example], rendering: Rendering, id_: str) -> np.ndarray | None:
    """Return an image as it is decoded, uint8 (height, width, 3), upright; None: it is gone."""
    example = examples[id_]
    if example.pixels is not None:
        return blend_array(example.pixels, rendering).astype(np.uint8)
    try:
        content = example.read()
        stored = pixels_as_stored(content, read_header(content), rendering)
    except (OSError, DataError, *UNDECODABLE):
        return None
    return upright(stored, content)


def answered_part(
    model: keras.Model, part: Examples, progress: Progress, label: str, consume: Consume[T]
) -> T:
    """Return what `consume` makes of the model's outputs for a part."""

    def answer(size: int) -> T:
        images = part.batched(size).batches(range(len(part)))
        return consume(answered(model, images, len(part), progress, label))

    return halving(answer, part.batch_size, label, partial(progress.say, label))
