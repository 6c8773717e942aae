"""Where in images a run's answers come from: maps, laid over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tlkit.atomic import folder_draft
from tlkit.commands.host import as_guest
from tlkit.data.pictures.decode import decode, traced_decode_and_resize
from tlkit.errors import DataError, SpecError, did_you_mean
from tlkit.evaluate.predictor import predict_items
from tlkit.places import check_free
from tlkit.progress import Progress, as_progress
from tlkit.reporting.saliency import Saliency, overlay, saliency
from tlkit.run import Run, open_run


@as_guest()
def explain(
    run: str | Path | Run,
    items: Any,
    out: str | Path,
    *,
    label: str | None = None,
    progress: bool | Progress = False,
) -> list[dict[str, Any]]:
    """Write images with what speaks for an answer laid over them, and return the answers.

    A map shows how much each place adds to the output that is explained, from none (the image as
    it is) to most (red); what speaks against it is not shown.

    Args:
        run: a run folder, or a run.
        items: files and folders, or one of these; a bad one never stops the others.
        out: a new or empty folder, for a PNG file of each image.
        label: the class, label or number that is explained; None: the most probable of each image.

    Returns:
        For each image what `Run.predict` returns, with `explained`, the name of the output, and
        `overlay`, the name of the file in `out`; both None where `error` says why.

    Raises:
        RunFolderError: no run, `out` holds something, or its model gives no map.
        SpecError: there is no such output, or of several numbers none is named.
        DataError: a folder holds no images, no image could be used, or `out` cannot be written.

    Example:
        tlkit.explain("runs/first", ["photo.jpg"], "maps/")
    """
    check_free(Path(out))
    shown = as_progress(progress)
    opened = run if isinstance(run, Run) else open_run(run)
    wanted = _wanted(opened, label)
    opened.say_state(shown)
    maps = saliency(opened.answering())
    paths = [items] if isinstance(items, str | Path) else list(items)
    try:
        with folder_draft(Path(out)) as draft:
            explaining = _Explaining(opened, maps, wanted, draft)
            rows = predict_items(
                explaining.answer, opened.answered(), paths, shown, opened.rendering
            )
            found = explaining.named(rows)
            if rows and all(row["error"] for row in rows):
                first = f"{rows[0]['path']}: {rows[0]['error']}"
                raise DataError(f"none of the {len(rows)} files could be used. The first, {first}")
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written: {error.strerror}") from error
    height, width = maps.network.output_shape[0][1:3]
    shown.say("explain", f"{maps.method}, {height} x {width} places")
    return found


def _wanted(run: Run, label: str | None) -> int | None:
    if label is None:
        several = run.task.explained(np.zeros(len(run.labels))) is None
        if several and len(run.labels) > 1:
            raise SpecError(
                f"--label: has to name what is explained. Allowed: {', '.join(run.labels)}"
            )
        return None
    if label not in run.labels:
        raise SpecError(
            f"--label: the run has no such output.{did_you_mean(label, run.labels)} Allowed: "
            f"{', '.join(run.labels)}. Received: {label!r}"
        )
    return run.labels.index(label)


class _Explaining:
    """Answers images, and writes each with its map into a folder, by number until it is named."""

    def __init__(self, run: Run, maps: Saliency, wanted: int | None, folder: Path):
        self._run, self._maps, self._wanted, self._folder = run, maps, wanted, folder
        self._resize = traced_decode_and_resize(run.spec.size, run.rendering)
        self._chosen: list[int] = []

    def answer(self, encoded: list[bytes]) -> np.ndarray:
        """Return the model's outputs (n, outputs) for encoded images."""
        images = np.stack([self._resize(each).numpy() for each in encoded])  # raises, or all can
        features, outputs = self._maps.answer(images)
        explained = self._run.task.explained
        chosen = [explained(row) if self._wanted is None else self._wanted for row in outputs]
        heats = self._maps.maps(features, np.array(chosen))
        for content, output, heat in zip(encoded, chosen, heats, strict=True):
            pixels = decode(content, self._run.rendering).numpy()
            size, fit = self._run.spec.size, self._run.rendering.fit
            overlay(pixels, heat, size, fit).save(self._folder / f".{len(self._chosen)}.png")
            self._chosen.append(output)
        return outputs

    def named(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give the files the names of their images; return `rows` with these."""
        numbers, taken, result = iter(range(len(self._chosen))), set(), []
        for row in rows:
            if row["error"] is not None:
                result.append({**row, "explained": None, "overlay": None})
                continue
            number, name = next(numbers), _free_name(Path(row["path"]).stem, taken)
            (self._folder / f".{number}.png").rename(self._folder / name)
            label = self._run.labels[self._chosen[number]]
            result.append({**row, "explained": label, "overlay": name})
        return result


def _free_name(stem: str, taken: set[str]) -> str:
    """Return a file name that no image before had; images of several folders have equal names."""
    name, number = f"{stem}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name.lower())
    return name
