"""Examples from TensorFlow Datasets by name: `tfds:NAME[/config][:split]`."""

from __future__ import annotations

from typing import Any

from tlkit.data.arrays import array_examples
from tlkit.data.sources import CLASSES, PARTS, Example
from tlkit.errors import DataError, did_you_mean


def tfds_parts(data: str) -> dict[str, list[Example]]:
    """Prepare a data set of tensorflow-datasets, if it is not yet, and read it into memory.

    Without a split, its splits `train`, `validation` and `test` are taken as parts. Where it lies
    is the library's business: `TFDS_DATA_DIR`, by default `~/tensorflow_datasets`.

    Raises:
        DataError: the name, config or split is unknown, the data set cannot be had, or its
            examples are not pictures with a label.
    """
    name, _, split = data.removeprefix("tfds:").partition(":")
    builder = _builder(name)
    features = builder.info.features
    if not {"image", "label"} <= set(features or ()):
        raise DataError(
            f"data {data}: needs the features image and label. Received: {sorted(features or ())}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever network, disk and hundreds of scripts may raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data {data}: cannot be downloaded or prepared: {reason}") from error
    chosen = {"train": split} if split else _splits(builder)
    if "train" not in chosen:
        raise DataError(
            f"data {data}: has no split called train; name one as tfds:{name}:SPLIT. "
            f"Allowed: {', '.join(builder.info.splits)}"
        )
    return {part: _examples(builder, part, name) for part, name in chosen.items()}


def _builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        near = did_you_mean(name.partition("/")[0], tfds.list_builders())
        raise DataError(
            f"data tfds:{name}: tensorflow-datasets knows no such data set.{near} "
            "Allowed: the names on https://www.tensorflow.org/datasets/catalog"
        ) from error
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data tfds:{name}: {reason}") from error


def _splits(builder: Any) -> dict[str, str]:
    return {
        part: name for part, names in PARTS.items() for name in names if name in builder.info.splits
    }


def _examples(builder: Any, part: str, split: str) -> list[Example]:
    import tensorflow_datasets as tfds

    label = builder.info.features["label"]
    try:
        rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
    except ValueError as error:
        raise DataError(
            f"data tfds:{builder.name}: unknown split. Allowed: {', '.join(builder.info.splits)} "
            f"and slices of them, such as train[:10%]. Received: {split!r}"
        ) from error
    names = getattr(label, "int2str", str)
    pictures = [row["image"] for row in rows]
    labels = [names(int(row["label"])) for row in rows]
    return array_examples((pictures, labels), CLASSES, part)
