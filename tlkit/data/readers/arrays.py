"""Examples from numpy arrays and tf.data sets, held in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tlkit.data.example import Example, Listing
from tlkit.data.targets import Targets
from tlkit.errors import DataError


def array_listing(data: Any, targets: Targets) -> Listing:
    """List arrays or a tf.data set, its numbers named by its own class names or by the spec's.

    Raises:
        DataError: see `array_examples`; or a set brings names that the spec's do not have.
    """
    own = class_names_of(data)
    if own and targets.names and not set(own) <= set(targets.names):
        raise DataError(
            "data: the class names of the tf.data set are others than class_names. "
            f"Allowed: {', '.join(targets.names)}. Received: {', '.join(own)}"
        )
    targets = replace(targets, names=tuple(own)) if own else targets
    examples, notes = array_examples(data, targets), []
    if targets.names:
        whose = "the tf.data set's own" if own else "class_names"
        notes.append(f"labels are called by {whose}: {', '.join(targets.names)}")
    return Listing("arrays", {"train": examples}, notes)


def class_names_of(data: Any) -> list[str]:
    """Return the names that `keras.utils.image_dataset_from_directory` puts on its tf.data set.

    A set that was made of it by `map`, `prefetch` or the like has them no more.
    """
    return [str(name) for name in getattr(data, "class_names", None) or ()]


def array_examples(data: Any, targets: Targets, prefix: str = "array") -> list[Example]:
    """Turn an `(images, labels)` pair or a `tf.data.Dataset` of such pairs into examples.

    Args:
        data: images (n, height, width), (..., 1), (..., 3) or (..., 4) or a list of such images
            of any sizes, 0-255; labels as n class numbers (whole, if of a floating type), names or
            one-hot rows, all of one kind. A tf.data set may be batched or not, and is read into
            memory.
        targets: how the labels are read: for multi-label rows of 0 and 1 or lists of names, for
            regression a number or a row of numbers each.
        prefix: of the examples' ids.

    Raises:
        DataError: the shapes or value ranges are others, or the labels are of several kinds.
    """
    if hasattr(data, "as_numpy_iterator"):
        images, labels = _from_dataset(data)
    elif isinstance(data, tuple | list) and any(hasattr(x, "as_numpy_iterator") for x in data):
        raise DataError(
            "data: is several tf.data sets. Allowed: the one to train on; others as val and test. "
            f"Received: {len(data)} of them in a {type(data).__name__}"
        )
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
    images = [colours(np.asarray(image)) for image in images]
    _check_range(images)
    _check_alike(labels)
    return [
        Example(f"{prefix}/{i:06d}", targets.from_array(label, f"data: label {i}"), pixels=image)
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def _check_alike(labels: Any) -> None:
    """Refuse labels of several kinds: 1 and "1", or rows of two lengths, mean no one thing."""
    first: dict[str, int] = {}
    for i, label in enumerate(labels):
        first.setdefault(_kind(np.asarray(label)), i)
    first.pop("", None)
    if len(first) > 1:
        found = ", ".join(f"{kind} (label {i})" for kind, i in first.items())
        raise DataError(f"data: labels must all be of one kind. Received: {found}")


def _kind(label: np.ndarray) -> str:
    """Return what a label is; nothing for an empty list, which has none of any kind."""
    if not label.size:
        return ""
    if label.dtype.kind in "USO":
        return "text"
    if label.size > 1 or label.ndim > 1:
        return f"a row of {label.size}"
    return "truth" if label.dtype.kind == "b" else "a number"


def _from_dataset(dataset: Any) -> tuple[list[np.ndarray], list[Any]]:
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError(f"data: a tf.data set must give (image, label) pairs. Received: {spec}")
    if spec[0].shape.rank == 4:
        dataset = dataset.unbatch()
    pairs = list(dataset.as_numpy_iterator())
    return [image for image, _ in pairs], [label for _, label in pairs]


def colours(image: np.ndarray) -> np.ndarray:
    """Return `image` as (height, width, 3), or 4 with alpha (0-255, too): grey is repeated."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise DataError(
            "data: an image must have the shape (height, width), (height, width, 1), (..., 3) or "
            f"(..., 4). Received: {image.shape}"
        )
    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def value_range(images: list[np.ndarray]) -> tuple[float, float]:
    """Return the least and largest value: of the colours, of alpha alone where all are black.

    A black shape on transparent ground has no other; one with colours of 0 to 1 is told apart.
    """
    low = min(float(image.min(initial=255)) for image in images)
    high = max(float(image[..., :3].max(initial=0)) for image in images)
    return low, high or max(float(image.max(initial=0)) for image in images)


def _check_range(images: list[np.ndarray]) -> None:
    low, high = value_range(images)
    # Images that never exceed 1 were scaled already: trained on, they would all look black.
    if not (low >= 0 and 1 < high <= 255):
        raise DataError(
            "data: pixel values must lie between 0 and 255 (tlkit does the scaling). "
            f"Received: {low:g} to {high:g}"
        )
