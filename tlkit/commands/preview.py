"""What training sees of some images, drawn as a grid: changed at random, mixed, with targets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tlkit.backbones.sides import Size, sides
from tlkit.data.column import select
from tlkit.data.feed.dataset import Prepared, changes_of
from tlkit.data.feed.mix import mixer
from tlkit.data.feed.pipeline import Draws, batches
from tlkit.errors import DataError, SpecError
from tlkit.lettering import lettering, missing_note
from tlkit.places import check_png
from tlkit.progress import Progress
from tlkit.tasks.drawing import save_figure
from tlkit.tasks.registry import task_of
from tlkit.tasks.task import Task

MAX_ROWS_OR_DRAWS = 50
"""Rows, and columns, that a grid may have: beyond, nobody can see an image."""


def check_grid(out: str | Path, images: int, draws: int) -> Path:
    """Return the path of a preview to be drawn.

    Raises:
        SpecError: see `places.check_png`, or the grid is too small or too large.
    """
    path = Path(out)
    check_png(path)
    for name, value in (("images", images), ("draws", draws)):
        if not 1 <= value <= MAX_ROWS_OR_DRAWS:
            raise SpecError(f"{name}: Allowed: 1 to {MAX_ROWS_OR_DRAWS}. Received: {value}")
    return path


def draw_preview(
    prepared: Prepared, path: Path, images: int, draws: int, progress: Progress
) -> None:
    """Draw `images` rows of the training part: each as it is, then as in `draws` epochs.

    The rows are what an epoch begins with: with balanced sampling rare classes are there more
    often. MixUp and CutMix mix each row with the one above it.

    Raises:
        DataError: the file cannot be written.
    """
    spec = prepared.spec
    task = task_of(spec, prepared.source.outputs)
    train = prepared.training(task)
    order = train.balance.order(len(train), np.random.default_rng(spec.seed))[:images]
    group = [prepared.split.train[i] for i in order]
    targets = select(train.targets, order)
    targets = task.soften(targets) if task.mixes else targets
    how = {"rendering": prepared.scan.rendering, "reading": prepared.reading}
    plain = batches(group, targets, spec.size, len(group), **how)
    mix = mixer(spec.mixup, spec.cutmix)
    drawn = Draws(epochs=range(draws), augment=changes_of(spec), mix=mix)
    seen = batches(group, targets, spec.size, len(group), drawn, **how)
    columns = []
    with progress.bar("preview", "drawing", draws + 1) as advance:
        for images, targets in itertools.chain(plain, seen):
            columns.append((np.asarray(images), np.asarray(targets)))
            advance(1)
    try:
        with lettering(task.outputs) as shown:
            figure = _draw(task, columns, spec.size, shown)
            save_figure(figure, path, dpi=100)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
    if note := missing_note(task.outputs, path.name):
        progress.say("note", note)
    progress.say("preview", f"{path}: {_what(prepared)}")


def _what(prepared: Prepared) -> str:
    spec = prepared.spec
    words = [f"augment {spec.augment_level}"]
    if spec.augment == "auto":
        words[0] += " (auto: where training augments at all, tlkit plan says)"
    if not spec.mirror:
        words.append("not mirrored")
    words += [f"{name} {value:g}" for name in ("mixup", "cutmix") if (value := getattr(spec, name))]
    if spec.balance != "none":
        words.append(f"balance {spec.balance}")
    return ", ".join(words)


def _draw(
    task: Task,
    columns: list[tuple[np.ndarray, np.ndarray]],
    size: Size,
    shown: Callable[[str], str],
) -> Figure:
    rows = len(columns[0][0])
    # At least two inches an image, so that two lines of text stand under it.
    inch = max(2.0, max(sides(size)) / 100)
    figure = Figure((inch * len(columns), (inch + 0.4) * rows), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for j, (images, targets) in enumerate(columns):
        for i in range(rows):
            axis = axes[i, j]
            axis.imshow(np.clip(task.shown(images[i], targets[i]) / 255, 0, 1))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(shown(task.describe(targets[i])), fontsize=8)
        axes[0, j].set_title("as it is" if j == 0 else f"draw {j}", fontsize=9)
    return figure
