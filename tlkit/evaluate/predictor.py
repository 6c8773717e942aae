"""Labels for pictures: files, folders, arrays."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkit.data.arrays import rgb
from tlkit.data.decode import why_undecodable
from tlkit.data.sources import picture_files
from tlkit.data.targets import printable
from tlkit.errors import DataError
from tlkit.heads.task import Task
from tlkit.progress import Progress

BATCH = 32


def predict_items(
    answer: Callable[[list[bytes]], np.ndarray],
    task: Task,
    items: Any,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Predict pictures in the order given; a bad one never stops the others.

    Args:
        answer: from a list of encoded pictures to the model's outputs (n, outputs).
        items: files and folders, or arrays (height, width, 3), 0-255, or one of these.

    Returns:
        For each picture a dict with `path`, the fields of `task.decode` (for classification
        `label`, `score` and `probabilities`), and `error`, which says why the others are None.

    Raises:
        DataError: a folder holds no pictures.
    """
    found = _listed(items)
    results: list[dict[str, Any]] = []
    with progress.bar("predict", "pictures", len(found)) as advance:
        for start in range(0, len(found), BATCH):
            rows = [_read(name, item) for name, item in found[start : start + BATCH]]
            good = [content for _, content, error in rows if error is None]
            p = iter(answer(good) if good else ())
            for name, _, error in rows:
                results.append(_prediction(name, None if error else next(p), task, error))
            advance(len(rows))
    return results


def _listed(items: Any) -> list[tuple[str, Any]]:
    """Return (name, file or array) of every picture in `items`, folders unfolded."""
    if isinstance(items, np.ndarray):
        # (n, height, width) is a batch of grey pictures, as it is for training.
        batch = items.ndim == 4 or (items.ndim == 3 and items.shape[-1] not in (1, 3, 4))
        items = list(items) if batch else [items]
    elif isinstance(items, str | Path):
        items = [items]
    found: list[tuple[str, Any]] = []
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray):
            found.append((f"array/{i:06d}", item))
            continue
        path = Path(item)
        if path.is_dir():
            files = picture_files(path)
            if not files:
                raise DataError(f"{path}: holds no pictures")
            found += [(printable(str(file)), file) for file in files]
        else:
            found.append((printable(str(item)), path))
    return found


def _read(name: str, item: Any) -> tuple[str, bytes, str | None]:
    if isinstance(item, np.ndarray):
        try:
            return name, _as_png(item), None
        except DataError as error:
            return name, b"", str(error)
    try:
        content = item.read_bytes()
    except OSError as error:
        return name, b"", f"cannot be read: {error.strerror}"
    return name, content, why_undecodable(content)


def _as_png(pixels: np.ndarray) -> bytes:
    picture = rgb(pixels)
    low, high = (float(f(picture, initial=0)) for f in (np.min, np.max))
    # Values up to 1 were scaled already: answered as they are, they would all look black.
    if picture.dtype != np.uint8 and not (low >= 0 and high <= 255 and (high > 1 or high == 0)):
        raise DataError(
            "pixel values must lie between 0 and 255 (tlkit does the scaling). "
            f"Received: {low:g} to {high:g}"
        )
    file = io.BytesIO()
    Image.fromarray(picture.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _prediction(name: str, row: np.ndarray | None, task: Task, error: str | None) -> dict[str, Any]:
    if row is None:
        fields = dict.fromkeys(task.decode(np.zeros(len(task.outputs))))
    else:
        fields = task.decode(row)
    return {"path": name, **fields, "error": error}
