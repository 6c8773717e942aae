"""Examples from numpy arrays and tf.data sets, held in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlkit.data.sources import Example
from tlkit.data.targets import Targets
from tlkit.errors import DataError


def array_examples(data: Any, targets: Targets, prefix: str = "array") -> list[Example]:
    """Turn an `(images, labels)` pair or a `tf.data.Dataset` of such pairs into examples.

    Args:
        data: images (n, height, width), (..., 1), (..., 3) or (..., 4) or a list of such pictures
            of any sizes, 0-255; labels as n class numbers, names or one-hot rows. A tf.data set
            may be batched or not, and is read into memory.
        targets: how the labels are read: for multi-label rows of 0 and 1 or lists of names, for
            regression a number or a row of numbers each.
        prefix: of the examples' ids.

    Raises:
        DataError: the shapes or value ranges are others.
    """
    if hasattr(data, "as_numpy_iterator"):
        images, labels = _from_dataset(data)
    elif isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
    else:
        raise DataError(
            "data: must be a folder, an (images, labels) pair or a tf.data.Dataset of pairs. "
            f"Received: {type(data).__name__}"
        )
    if len(images) != len(labels) or not len(images):
        raise DataError(
            "data: needs as many labels as images, and at least one. "
            f"Received: {len(images)} images, {len(labels)} labels"
        )
    pictures = [rgb(np.asarray(image)) for image in images]
    _check_range(pictures)
    return [
        Example(f"{prefix}/{i:06d}", targets.from_array(label), pixels=picture)
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True))
    ]


def _from_dataset(dataset: Any) -> tuple[list[np.ndarray], list[Any]]:
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError(f"data: a tf.data set must give (image, label) pairs. Received: {spec}")
    if spec[0].shape.rank == 4:
        dataset = dataset.unbatch()
    pairs = list(dataset.as_numpy_iterator())
    return [image for image, _ in pairs], [label for _, label in pairs]


def rgb(image: np.ndarray) -> np.ndarray:
    """Return `image` as (height, width, 3): grey is repeated, alpha dropped."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise DataError(
            "data: a picture must have the shape (height, width), (height, width, 1), (..., 3) or "
            f"(..., 4). Received: {image.shape}"
        )
    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def _check_range(pictures: list[np.ndarray]) -> None:
    low = min(float(picture.min()) for picture in pictures)
    high = max(float(picture.max()) for picture in pictures)
    # Pictures that never exceed 1 were scaled already: trained on, they would all look black.
    if not (low >= 0 and 1 < high <= 255):
        raise DataError(
            "data: pixel values must lie between 0 and 255 (tlkit does the scaling). "
            f"Received: {low:g} to {high:g}"
        )
