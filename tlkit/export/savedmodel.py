"""A TensorFlow SavedModel: encoded images in, probabilities, label and score out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import sides, size_of
from tlkit.data.pictures.decode import decode, decode_sized, resize
from tlkit.data.pictures.files import check_regular, parse_json, read_file
from tlkit.data.pictures.rendering import Rendering
from tlkit.errors import ExportError
from tlkit.export.about import BESIDE, About, Answered, about_from_json, read_beside
from tlkit.export.foreign import check_graph
from tlkit.export.network import check_backend
from tlkit.export.objects import found_objects
from tlkit.runfolder.record import file_digest, is_one_of
from tlkit.spec.coding import VOID
from tlkit.tasks.registry import task_from_json
from tlkit.tasks.task import Task

LABELS_FILE = Path("assets.extra") / "labels.json"
TASK_FILE = Path("assets.extra") / "task.json"
RENDERING_FILE = Path("assets.extra") / "rendering.json"
"""TensorFlow Serving's place for files that belong to a model but are not read by its graph."""

DIGESTS_FILE = Path("assets.extra") / "digests.json"
"""BLAKE2b of each file that is read to answer: labels beside another graph would name its answers
wrongly, and weights beside another graph answer by chance."""


FINGERPRINT = "fingerprint.pb"
"""TensorFlow reads it for its statistics alone, whatever is in it; for a pipe it would wait."""


def write(model: keras.Model, about: About, path: Path, calibration: Any = None) -> None:
    """Write `model` as a SavedModel that needs nothing but TensorFlow.

    Signatures:
        serving_default(image_bytes: string (n,)): encoded images (JPEG, PNG, GIF, BMP, WebP),
            decoded as `rendering` says, turned upright and resized inside the graph, which refuses
            images of more than `MAX_PIXELS` pixels before it decodes them.
        serve_pixels(images: uint8 (n, height, width, 3)): RGB 0-255 of any size.
        serve_resized(images: float32 (n, size, size, 3)): RGB 0-255 at the network's size: a server
            that gathers batches decodes each image by itself first, so that a damaged one fails
            alone.
        All give, for classification, probabilities float32 (n, classes), label string (n,) and
        score float32 (n,); else what `Task.answer` names: for multi-label also given bool (n,
        labels), for regression values float32 (n, numbers), for localisation also box float32 (n,
        4), x1, y1, x2, y2 in pixels of the original image, upright. For maps of classes
        (segmentation) also label_map uint8 (n, height, width) of the size of the upright original;
        of originals of several sizes the largest sides, with `VOID` beyond the others' sizes int32
        (n, 2); and class_names string (classes,). For detection what `found_objects` returns.

    Raises:
        ExportError: Keras runs on another backend than TensorFlow.
    """
    check_backend()
    task, rendering = about.task, about.rendering
    size = size_of(model.input_shape)
    height, width = sides(size)
    answer = _answer(model, task)

    image = tf.TensorSpec((height, width, 3), tf.float32)
    many = tf.TensorSpec((None, *image.shape), tf.float32, "images")

    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, sizes = tf.map_fn(
            lambda encoded: decode_sized(encoded, size, rendering),
            image_bytes,
            fn_output_signature=(image, tf.TensorSpec((2,), tf.int32)),
        )
        return answer(images, sizes)

    def serve_pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
        resized = tf.map_fn(
            lambda image: resize(image, size, rendering.fit), images, fn_output_signature=image
        )
        count, own = tf.shape(images)[0], tf.shape(images)[1:3]
        return answer(resized, tf.tile(own[None], (count, 1)))

    def serve_resized(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(images, tf.tile([[height, width]], (tf.shape(images)[0], 1)))

    archive = keras.export.ExportArchive()
    # The functions bring the variables along; those of a model that is tracked as well would be
    # stored a second time, as Keras's own objects.
    archive.add_endpoint(
        "serving_default", serve_bytes, [tf.TensorSpec((None,), tf.string, "image_bytes")]
    )
    archive.add_endpoint(
        "serve_pixels", serve_pixels, [tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
    )
    archive.add_endpoint("serve_resized", serve_resized, [many])
    archive.write_out(str(path), verbose=False)
    (path / LABELS_FILE).parent.mkdir(exist_ok=True)
    for file, content in (
        (LABELS_FILE, list(task.outputs)),
        (TASK_FILE, task.to_json()),
        (RENDERING_FILE, rendering._asdict()),
    ):
        (path / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (path / DIGESTS_FILE).write_text(json.dumps(digests(path), indent=2), encoding="utf-8")


def digests(path: Path) -> dict[str, str]:
    """Return hash and size of each file of an export that is read, by its name there."""
    return {name: file_digest(file) for name, file in _files(path).items()}


def _files(path: Path) -> dict[str, Path]:
    """Return the files of an export that are read, by their names there."""
    read = [path / "saved_model.pb", path / LABELS_FILE, path / TASK_FILE, path / RENDERING_FILE]
    read += sorted((path / "variables").glob("*"))
    return {x.relative_to(path).as_posix(): x for x in read if x.is_file()}


def check_export(path: Path) -> bool:
    """Check that the files of an export belong together.

    Returns:
        False for an export of an earlier version, whose files cannot be checked.

    Raises:
        ExportError: names those that are others than were written, or are missing.
    """
    if not (path / DIGESTS_FILE).exists():
        if os.path.lexists(path / RENDERING_FILE):  # which is no older
            raise ExportError(f"export {path}: {DIGESTS_FILE} is missing. Export the run anew")
        return False
    try:
        written = dict(parse_json(read_file(path / DIGESTS_FILE)))
    except (OSError, ValueError, TypeError) as error:
        raise ExportError(f"export {path}: {DIGESTS_FILE} is damaged") from error
    there = _files(path)
    wrong = sorted(
        name
        for name in written | there
        if name not in there or not is_one_of(there[name], [str(written.get(name))])
    )
    if wrong:
        raise ExportError(
            f"export {path}: {', '.join(wrong)}: damaged, missing, or of another export: not what "
            f"{DIGESTS_FILE} says was written. Export the run anew"
        )
    return True


def _check_fingerprint(file: Path) -> None:
    try:
        if os.path.lexists(file):
            check_regular(file)
    except OSError as error:
        problem = f"export {file.parent}: {file.name} {error.strerror}. Export the run anew"
        raise ExportError(problem) from error


def _answer(
    model: keras.Model, task: Task
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function from resized images, and the sizes of the originals int32 (n, 2), to a
    signature's outputs."""
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)

    # A function of its own: traced and stored once, however many signatures call it.
    @tf.function(input_signature=[images])
    def network(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(images, training=False), tf.float32)

    def answer(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        return signature_outputs(task, network(images), sizes)

    return answer


def signature_outputs(task: Task, raw: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return what a signature gives, by name, see `write`.

    Args:
        raw: the model's outputs float32 (n, ...).
        sizes: int32 (n, 2), height and width of the upright originals.
    """
    names = tf.constant(list(task.outputs))
    answers = task.answer(raw, sizes)
    if (shares := answers.get("probabilities")) is not None:
        answers["label"] = tf.gather(names, tf.argmax(shares, axis=1))
        answers["score"] = tf.reduce_max(shares, axis=1)
    if task.maps:
        answers |= {"label_map": _label_maps(task, raw, sizes), "sizes": sizes}
        answers["class_names"] = tf.identity(names)
    if task.finds:
        answers |= found_objects(task, raw, sizes)
    return answers


def _label_maps(task: Task, raw: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Return maps of classes, each of the size of its original, side by side."""
    largest = tf.reduce_max(sizes, axis=0)

    def one(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        row, own = item
        numbers = task.label_map(row, *tf.unstack(tf.cast(own, tf.int64)))
        margins = [[0, largest[0] - own[0]], [0, largest[1] - own[1]]]
        return tf.pad(numbers, margins, constant_values=tf.constant(VOID, tf.uint8))

    return tf.map_fn(one, (raw, sizes), fn_output_signature=tf.TensorSpec((None, None), tf.uint8))


def _rendering(file: Path) -> Rendering:
    """Return how an export decodes; those without this file dropped alpha."""
    if not file.is_file():
        return Rendering("drop")
    return Rendering(**parse_json(read_file(file)))


class SavedModel:
    """A SavedModel on disk, answering as a client of a model server would be answered.

    Attributes:
        checked: whether its files are known to belong together, see `check_export`.
        about: what it says of itself; None of an earlier version.

    Raises:
        ExportError: it is none that `tlkit export` wrote, its files do not belong together, or its
            graph may do more than compute (`tlkit.export.foreign`).
    """

    def __init__(self, path: Path):
        self.checked = check_export(path)
        _check_fingerprint(path / FINGERPRINT)
        try:
            about = parse_json(read_file(path / TASK_FILE))
            self.task = task_from_json(about)
            self.rendering = _rendering(path / RENDERING_FILE)
            check_graph(path)
            loaded = tf.saved_model.load(str(path))
            self._bytes = loaded.signatures["serving_default"]
            self._pixels = loaded.signatures["serve_pixels"]
            # Exports of an earlier version have no such signature.
            self._resized = loaded.signatures.get("serve_resized")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"export {path}: is not a SavedModel written by tlkit export: {error}"
            ) from error
        # The signatures only borrow the loaded object's variables.
        self._keep = loaded
        self.about = self._about(path)

    def _about(self, path: Path) -> About | None:
        described = read_beside(path)
        if described is None:
            return None
        about = about_from_json(described, path / BESIDE)
        if (about.task, about.rendering) != (self.task, self.rendering):
            raise ExportError(
                f"export {path}: {BESIDE} is not of this SavedModel: it names another task, other "
                "labels or another rendering. Export the run anew"
            )
        return about

    def predict_bytes(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Return the model's outputs (n, outputs) for encoded images."""
        return self._bytes(image_bytes=tf.constant(list(encoded)))[self.task.answers].numpy()

    def predict_pixels(self, images: np.ndarray) -> np.ndarray:
        """Return the model's outputs (n, outputs) for uint8 images (n, height, width, 3)."""
        return self._pixels(images=tf.constant(images, tf.uint8))[self.task.answers].numpy()

    def predict_resized(self, images: np.ndarray) -> np.ndarray:
        """Return the model's outputs (n, outputs) for images float32 (n, size, size, 3)."""
        return self._resized(images=tf.constant(images, tf.float32))[self.task.answers].numpy()

    def answers(self, encoded: Sequence[bytes]) -> dict[str, Answered]:
        """Return all that is answered for encoded images, by the signature that gives it."""
        pixels = [decode(item, self.rendering) for item in encoded]
        size = size_of(self._resized.structured_input_signature[1]["images"].shape)
        resized = tf.stack([resize(image, size, self.rendering.fit) for image in pixels])
        each = [_arrays(self._pixels(images=image[None])) for image in pixels]
        own = np.array([image.shape[:2] for image in pixels], np.int32)
        seen = np.full_like(own, sides(size))
        return {
            "serving_default": (own, _arrays(self._bytes(image_bytes=tf.constant(list(encoded))))),
            "serve_pixels": (own, {k: np.concatenate([a[k] for a in each]) for k in each[0]}),
            "serve_resized": (seen, _arrays(self._resized(images=resized))),
        }


def _arrays(answer: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return the answers but for maps, whose sizes differ: they follow from the outputs."""
    return {name: value.numpy() for name, value in answer.items() if name != "label_map"}
