"""Examples from TensorFlow Datasets: by name, and from a folder that its writers made.

Where the records can be read one by one, and hold encoded images, an example is the number of
its record; of other data sets the images are held in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from tlkit.data.example import PARTS, Example, Facts, content_digest
from tlkit.data.pictures.files import check_regular, parse_json, read_file
from tlkit.data.readers.arrays import array_examples
from tlkit.data.readers.form import ABOUT
from tlkit.data.readers.index_labels import read_label
from tlkit.data.readers.records import IMAGE, Records
from tlkit.data.targets import Label, Targets
from tlkit.errors import DataError, did_you_mean

FORMAT = 2
"""Number of the layout of that file and of the index; raised when either changes. In layout 1,
which is read too, the index has no groups, and that file may lack hashes."""

BY_NUMBER = ("tfrecord", "array_record")
"""Formats of TensorFlow Datasets whose records can be read one by one, by number."""


class _About(TypedDict):
    format: int
    task: str
    digests: NotRequired[dict[str, str]]


_ABOUT = TypeAdapter(_About)


def index_file(folder: Path, split: str) -> Path:
    """Return the file that names the examples of a split in the order of their records."""
    return folder / f"index-{split}.jsonl"


def tfds_parts(data: str, targets: Targets) -> dict[str, list[Example]]:
    """List a data set by its name, `tfds:NAME[/config][:split]`; prepare it, if it is not yet.

    Without a split, its splits `train`, `validation` and `test` are taken as parts. Where it lies
    is the library's business: `TFDS_DATA_DIR`, by default `~/tensorflow_datasets`.

    Raises:
        DataError: the name, config or split is unknown, the data set cannot be had, or its
            examples are not images with a label of the task.
    """
    name, _, split = data.removeprefix("tfds:").partition(":")
    builder = _builder(name)
    _check_features(builder, data)
    written = _check_written(Path(builder.data_dir), targets)
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
    return {part: _part(builder, part, name, targets, written) for part, name in chosen.items()}


def about_prepared(folder: Path) -> dict[str, Any]:
    """Return what `tlkit data prepare` says of the data set in `folder`; empty: it wrote none, or
    that cannot be read, which is said when the data set is listed."""
    try:
        about = parse_json(read_file(folder / ABOUT))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def folder_parts(folder: Path, targets: Targets) -> dict[str, list[Example]]:
    """List the data set in `folder`, written by `tlkit data prepare` or TensorFlow Datasets.

    Raises:
        DataError: it is damaged, has no split `train`, was prepared for another task, or its
            examples are not images with a label.
    """
    import tensorflow_datasets as tfds

    written = _check_written(folder, targets)
    try:
        for path in folder.glob("*.json"):
            check_regular(path)
        builder = tfds.builder_from_directory(folder)
        chosen = _splits(builder)
    except Exception as error:  # what a damaged description makes the library raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data {folder}: is no data set that can be read: {reason}") from error
    _check_features(builder, str(folder))
    if "train" not in chosen:
        raise DataError(
            f"data {folder}: has no split called train. Received: {', '.join(builder.info.splits)}"
        )
    return {part: _part(builder, part, name, targets, written) for part, name in chosen.items()}


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


def _check_features(builder: Any, data: str) -> None:
    features = builder.info.features
    if not {IMAGE, "label"} <= set(features or ()):
        raise DataError(
            f"data {data}: needs the features image and label. Received: {sorted(features or ())}"
        )


def _check_written(folder: Path, targets: Targets) -> bool:
    """Tell whether `tlkit data prepare` wrote the data set in `folder`, and check that it is whole.

    Before the library reads a file of it: what that says of a damaged one names none.

    Raises:
        DataError: names the files that are missing or others, or the data is for another task.
    """
    if not (os.path.lexists(folder / ABOUT) or any(folder.glob("index-*.jsonl"))):
        return False
    try:
        about = _ABOUT.validate_python(parse_json(read_file(folder / ABOUT)), strict=True)
        number, task = about["format"], about["task"]
        digests = about["digests"] if number == FORMAT else about.get("digests", {})
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"data {folder}: {ABOUT} is missing or damaged; prepare it anew") from error
    if number not in (1, FORMAT):
        raise DataError(
            f"data {folder}: was prepared by another version of tlkit; prepare it anew. "
            f"Allowed: format {FORMAT}. Received: {number}"
        )
    wrong = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    if wrong:
        raise DataError(
            f"data {folder}: {', '.join(wrong)}: is missing or damaged, or was replaced: not what "
            f"{ABOUT} says was written; prepare it anew"
        )
    if task != targets.task:
        raise DataError(f"data {folder}: was prepared for another task; use --set task={task}")
    return True


def described(folder: Path) -> dict[str, str]:
    """Return the hashes of the files that say what the records in `folder` are, by name."""
    files = sorted(path for path in folder.iterdir() if ".tfrecord" not in path.name)
    return {path.name: digest for path in files if (digest := _digest(path))}


def _digest(path: Path) -> str | None:
    try:
        return content_digest(read_file(path))
    except OSError:
        return None


def _splits(builder: Any) -> dict[str, str]:
    return {
        part: name for part, names in PARTS.items() for name in names if name in builder.info.splits
    }


def _part(builder: Any, part: str, split: str, targets: Targets, written: bool) -> list[Example]:
    if written and split in builder.info.splits:
        return _indexed(builder, split, Path(builder.data_dir))
    return _examples(builder, part, split, targets)


def _indexed(builder: Any, split: str, folder: Path) -> list[Example]:
    """List a split by its index.

    The index is trusted for ids and labels: its own hash stands in `ABOUT`. What it says of an
    image's content is held against the record each time that one is read, so that none is
    decoded before training only to hash it.
    """
    records = _records(builder, split)
    labels: dict[Any, Label] = {}  # each label once in memory, not once an example
    examples = []
    for number, row in enumerate(_index_rows(index_file(folder, split))):
        id_, label, digest, group, facts = row
        label = read_label(label, records, number)
        label = labels.setdefault(label, label)
        known = {"digest": digest, "group": group, "facts": facts}
        examples.append(Example(id_, label, records=records, number=number, **known))
    if records is None or len(examples) != len(records):
        raise DataError(
            f"data {folder}: the index of {split} does not fit its records; prepare it anew. "
            f"Received: {len(examples)} entries for {len(records or ())} records"
        )
    return sorted(examples, key=lambda example: example.id)


def _index_rows(path: Path) -> Iterator[tuple[str, Any, str, str | None, Facts | None]]:
    try:
        check_regular(path)
        with path.open(encoding="utf-8") as file:
            for line in file:
                id_, label, digest, *more = parse_json(line)
                group, facts = (*more, None, None)[:2]
                yield id_, label, digest, group, Facts(*facts) if facts else None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"data {path}: is missing or damaged; prepare it anew") from error


def _examples(builder: Any, part: str, split: str, targets: Targets) -> list[Example]:
    label_of = _label_reader(builder.info.features["label"])
    try:
        records = _records(builder, split)
    except ValueError as error:
        raise _unknown_split(builder, split) from error
    if label_of is None or records is None:
        return _in_memory(builder, part, split, targets)
    try:
        return [
            Example(
                f"{part}/{number:06d}",
                label_of(records.features(number)["label"]),
                records=records,
                number=number,
            )
            for number in range(len(records))
        ]
    except OSError as error:
        raise DataError(f"data {builder.info.full_name}: {error.strerror}") from error


def _records(builder: Any, split: str) -> Records | None:
    """Return the records of a split, or None where they are no files of encoded images."""
    import tensorflow_datasets as tfds

    image, kind = builder.info.features[IMAGE], builder.info.file_format
    # Images of floats are stored as the bytes of these in a PNG; only the library decodes them.
    encoded = isinstance(image, tfds.features.Image) and image.np_dtype in (np.uint8, np.uint16)
    if not encoded or kind is None or kind.value not in BY_NUMBER or not builder.info.splits:
        return None
    found = builder.info.splits[split].file_instructions
    pieces = [(str(piece.filename), piece.skip, max(0, piece.take)) for piece in found]
    return Records(pieces, kind.value) if pieces and Path(pieces[0][0]).exists() else None


def _label_reader(feature: Any) -> Callable[[Any], Label] | None:
    """Return what reads a label from a record, or None for a kind that only the library reads."""
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return lambda found: feature.int2str(found.int64_list.value[0])
    if isinstance(feature, tfds.features.Sequence) and isinstance(
        feature.feature, tfds.features.ClassLabel
    ):
        names = feature.feature
        return lambda found: tuple(sorted(names.int2str(i) for i in found.int64_list.value))
    return None


def _in_memory(builder: Any, part: str, split: str, targets: Targets) -> list[Example]:
    import tensorflow_datasets as tfds

    label = builder.info.features["label"]
    try:
        rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
    except ValueError as error:
        raise _unknown_split(builder, split) from error
    names = getattr(label, "int2str", None)
    images = [row[IMAGE] for row in rows]
    labels = [names(int(row["label"])) if names else row["label"] for row in rows]
    return array_examples((images, labels), targets, part)


def _unknown_split(builder: Any, split: str) -> DataError:
    return DataError(
        f"data tfds:{builder.name}: unknown split. Allowed: {', '.join(builder.info.splits)} "
        f"and slices of them, such as train[:10%]. Received: {split!r}"
    )
