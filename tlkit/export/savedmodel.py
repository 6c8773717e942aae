"""A TensorFlow SavedModel: encoded pictures in, probabilities, label and score out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tlkit.data.decode import decode_and_resize, resize
from tlkit.errors import ExportError

LABELS_FILE = Path("assets.extra") / "labels.json"
"""TensorFlow Serving's place for files that belong to a model but are not read by its graph."""


def write_savedmodel(model: keras.Model, labels: Sequence[str], path: Path) -> None:
    """Write `model` as a SavedModel that needs nothing but TensorFlow.

    Signatures:
        serving_default(image_bytes: string (n,)): encoded pictures (JPEG, PNG, GIF, BMP, WebP),
            decoded, turned upright and resized inside the graph.
        serve_pixels(images: uint8 (n, height, width, 3)): RGB 0-255 of any size.
        Both give probabilities float32 (n, classes), label string (n,), score float32 (n,).

    Raises:
        ExportError: Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "export savedmodel: needs the TensorFlow backend. Allowed: KERAS_BACKEND=tensorflow "
            f"(the run folder works with every backend). Received: {keras.backend.backend()}"
        )
    size = model.input_shape[1]
    names = tf.constant(list(labels))

    def answer(pictures: tf.Tensor) -> dict[str, tf.Tensor]:
        p = tf.cast(model(pictures, training=False), tf.float32)
        best = tf.argmax(p, axis=1)
        return {
            "probabilities": p,
            "label": tf.gather(names, best),
            "score": tf.reduce_max(p, axis=1),
        }

    def serve_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(
            tf.map_fn(
                lambda encoded: decode_and_resize(encoded, size),
                image_bytes,
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
            )
        )

    def serve_pixels(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(
            tf.map_fn(
                lambda image: resize(image, size),
                images,
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
            )
        )

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serve_bytes, [tf.TensorSpec((None,), tf.string, "image_bytes")]
    )
    archive.add_endpoint(
        "serve_pixels", serve_pixels, [tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
    )
    archive.write_out(str(path), verbose=False)
    (path / LABELS_FILE).parent.mkdir(exist_ok=True)
    (path / LABELS_FILE).write_text(json.dumps(list(labels), ensure_ascii=False), encoding="utf-8")


def is_savedmodel(path: Path) -> bool:
    """Tell whether `path` is a SavedModel folder."""
    return (path / "saved_model.pb").is_file()


class SavedModel:
    """A SavedModel on disk, answering as a client of a model server would be answered."""

    def __init__(self, path: Path):
        try:
            self.labels = json.loads((path / LABELS_FILE).read_text(encoding="utf-8"))
            loaded = tf.saved_model.load(str(path))
            self._bytes = loaded.signatures["serving_default"]
            self._pixels = loaded.signatures["serve_pixels"]
        except (OSError, ValueError, KeyError) as error:
            raise ExportError(
                f"export {path}: is not a SavedModel written by tlkit export: {error}"
            ) from error
        # The signatures only borrow the loaded object's variables.
        self._keep = loaded

    def predict_bytes(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Return probabilities (n, classes) of encoded pictures."""
        return self._bytes(image_bytes=tf.constant(list(encoded)))["probabilities"].numpy()

    def predict_pixels(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities (n, classes) of uint8 pictures (n, height, width, 3)."""
        return self._pixels(images=tf.constant(images, tf.uint8))["probabilities"].numpy()
