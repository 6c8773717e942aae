"""Labels for images: files, folders, arrays."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image, ImageOps

from tlkit.backbones.sides import size_of
from tlkit.compute.memory import halving
from tlkit.data.pictures.decode import (
    UNDECODABLE,
    samples,
    traced_decode_and_resize,
    upright_size,
    why_undecodable,
)
from tlkit.data.pictures.files import read_file
from tlkit.data.pictures.header import is_deep, read_header
from tlkit.data.pictures.rendering import PLAIN, Rendering
from tlkit.data.readers.arrays import colours, value_range
from tlkit.data.readers.open import image_files
from tlkit.data.scan.pixel_facts import say_deep
from tlkit.errors import DataError, printable
from tlkit.evaluate.answer_files import NO_FILES, AnswerFiles, WrittenAnswers
from tlkit.evaluate.tiles import Tiling
from tlkit.places import unfolded
from tlkit.progress import Progress
from tlkit.tasks.task import Task

BATCH = 32

HELD = 2**28
"""Bytes of files and pixels in one batch above which no further image joins it."""


def predict_items(
    answer: Callable[[list[bytes]], np.ndarray],
    task: Task,
    items: Any,
    progress: Progress,
    rendering: Rendering = PLAIN,
    files: AnswerFiles = NO_FILES,
) -> list[dict[str, Any]]:
    """Predict images in the order given; a bad one never stops the others.

    Args:
        answer: from a list of encoded images to the model's outputs (n, outputs), or a `Tiling`.
        items: files, folders and patterns of them (`images/*.jpg`), encoded images as bytes, images
            of Pillow, or arrays (height, width, 3), 0-255; or one of these.
        rendering: how `answer` decodes; where 16-bit samples do not fit it, that is said.
        files: what is written beside.

    Returns:
        For each image a dict with `path`, the fields of `task.decode` (for classification
        `label`, `score` and `probabilities`), `mask` and `overlay` where such files were asked for,
        and `error`, which says why the others are None.

    Raises:
        DataError: a folder holds no images.
    """
    written = WrittenAnswers(files, task, rendering)
    found = _listed(items)
    results: list[dict[str, Any]] = []
    deep: dict[str, int] = {}
    with progress.bar("predict", "images", len(found)) as advance:
        for batch in _batches(found):
            answers = _answer_usable(answer, batch)
            for image, row in zip(batch, answers, strict=True):
                results.append(_prediction(image, row, task, written))
            deep.update(_depths(batch))
            advance(len(batch))
    written.close()
    _say_depths(deep, rendering, progress)
    if isinstance(answer, Tiling):
        answer.say(progress)
    return results


def answers_of(
    model: keras.Model, rendering: Rendering, progress: Progress
) -> Callable[[list[bytes]], np.ndarray]:
    """Return what answers encoded images by `model`, through the pipeline's own decoding."""
    decode = traced_decode_and_resize(size_of(model.input_shape), rendering)

    def some(encoded: list[bytes]) -> np.ndarray:
        images = [decode(item).numpy() for item in encoded]
        return np.asarray(model.predict_on_batch(np.stack(images)), np.float32)

    def answer(encoded: list[bytes]) -> np.ndarray:
        def pieces(size: int) -> np.ndarray:
            starts = range(0, len(encoded), size)
            return np.concatenate([some(encoded[i : i + size]) for i in starts])

        say = functools.partial(progress.say, "predict")
        return halving(pieces, len(encoded), "predict", say)

    return answer


def _depths(batch: list[_Image]) -> dict[str, int]:
    """Return the largest sample of each 16-bit image that was answered."""
    deep = (p for p in batch if p.error is None and is_deep(p.content))
    return {p.name: int(samples(p.content)[..., :3].max()) for p in deep}


def _say_depths(deep: dict[str, int], rendering: Rendering, progress: Progress) -> None:
    """Say how 16-bit images were read, where there were any."""
    clipped = sum(largest > rendering.top for largest in deep.values())
    facts = {"count": len(deep), "largest": max(deep.values(), default=0), "bits": rendering.bits}
    say_deep({**facts, "clipped": {"count": clipped}}, progress, options=False)


@dataclass
class _Image:
    """What was read of one item; `error` says why it is not to be decoded.

    Attributes:
        weight: bytes of file and pixels.
        size: height and width in pixels, upright.
    """

    name: str
    content: bytes = b""
    error: str | None = None
    weight: int = 0
    size: tuple[int, int] = (0, 0)


def _batches(found: list[tuple[str, Any]]) -> Iterator[list[_Image]]:
    """Read the items in batches of up to `BATCH`, fewer where they are large."""
    batch: list[_Image] = []
    for name, item in found:
        batch.append(_read(name, item))
        if len(batch) == BATCH or sum(image.weight for image in batch) > HELD:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer_usable(
    answer: Callable[[list[bytes]], np.ndarray], batch: list[_Image]
) -> list[np.ndarray | None]:
    """Return the model's row for each image, or None; each is decoded once if all are whole."""
    try:
        return _answer(answer, batch)
    except UNDECODABLE:
        for image in batch:
            image.error = image.error or why_undecodable(image.content)
    return _answer(answer, batch)


def _answer(answer: Callable[[list[bytes]], np.ndarray], batch: list[_Image]) -> list:
    good = [image.content for image in batch if image.error is None]
    rows = iter(answer(good) if good else ())
    return [next(rows) if image.error is None else None for image in batch]


def _listed(items: Any) -> list[tuple[str, Any]]:
    """Return (name, file or array) of every image in `items`, folders unfolded."""
    if isinstance(items, bytes | bytearray | Image.Image):
        items = [items]
    if isinstance(items, np.ndarray):
        # (n, height, width) is a batch of grey images, as it is for training.
        batch = items.ndim == 4 or (items.ndim == 3 and items.shape[-1] not in (1, 3, 4))
        items = list(items) if batch else [items]
    elif isinstance(items, str | Path):
        items = [items]
    found: list[tuple[str, Any]] = []
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray):
            found.append((f"array/{i:06d}", item))
            continue
        if isinstance(item, bytes | bytearray | Image.Image):
            kind = "image" if isinstance(item, Image.Image) else "bytes"
            found.append((f"{kind}/{i:06d}", item))
            continue
        path = Path(item)
        if matching := unfolded(path):
            found += [(printable(str(file)), file) for file in matching]
        elif path.is_dir():
            files = image_files(path)
            if not files:
                raise DataError(f"{path}: holds no images")
            found += [(printable(str(file)), file) for file in files]
        else:
            found.append((printable(str(item)), path))
    return found


def _read(name: str, item: Any) -> _Image:
    try:
        content = _content(item)
    except DataError as error:
        return _Image(name, error=str(error))
    except OSError as error:
        return _Image(name, error=f"cannot be read: {error.strerror}")
    header = read_header(content)
    if header.problem:
        return _Image(name, error=header.problem)
    weight = len(content) + header.width * header.height
    return _Image(name, content, None, weight, upright_size(content, header))


def _content(item: Any) -> bytes:
    """Return the encoded image that an item is, or is the name of."""
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, np.ndarray):
        return _as_png(item)
    return _encoded(item) if isinstance(item, Image.Image) else read_file(item)


IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""Modes of Pillow that PNG holds as they are; images of others (CMYK, YCbCr) become RGB."""


def _encoded(image: Image.Image) -> bytes:
    """Return an image of Pillow, upright, as PNG: transparency and 16 bits are left to decoding."""
    try:
        upright, file = ImageOps.exif_transpose(image), io.BytesIO()
        kept = upright if upright.mode in IN_PNG else upright.convert("RGB")
        kept.save(file, "PNG", exif=b"")
    except (OSError, ValueError, SyntaxError) as error:  # it is read from its file only now
        raise DataError(f"cannot be decoded: {error}") from error
    return file.getvalue()


def _as_png(pixels: np.ndarray) -> bytes:
    image = colours(pixels)
    low, high = value_range([image])
    # Values up to 1 were scaled already: answered as they are, they would all look black.
    if image.dtype != np.uint8 and not (low >= 0 and high <= 255 and (high > 1 or high == 0)):
        raise DataError(
            "pixel values must lie between 0 and 255 (tlkit does the scaling). "
            f"Received: {low:g} to {high:g}"
        )
    file = io.BytesIO()
    Image.fromarray(image.round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _prediction(
    image: _Image, row: np.ndarray | None, task: Task, written: WrittenAnswers
) -> dict[str, Any]:
    fields = dict.fromkeys((*task.fields, *written.keys))
    if row is not None:
        fields |= task.decode(row, *image.size)
        fields |= written.write(image.name, image.content, row, *image.size)
    return {"path": image.name, **fields, "error": image.error}
