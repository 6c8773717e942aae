"""Writes the examples of a run as a sharded data set of TensorFlow Datasets.

The files of the images go into it byte for byte: what decodes them is tlkit's own decoder, at
training time, as it does for files. Other programs read the data set through
`tfds.builder_from_directory`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tlkit.atomic import folder_draft
from tlkit.data.annotations import Annotations
from tlkit.data.example import PARTS, Example, Facts, content_digest
from tlkit.data.feed.dataset import Prepared
from tlkit.data.readers.form import ABOUT
from tlkit.data.readers.index_labels import index_label
from tlkit.data.readers.records import IMAGE
from tlkit.data.readers.tfds import FORMAT, described, index_file
from tlkit.errors import DataError
from tlkit.places import check_free
from tlkit.progress import Progress
from tlkit.tasks.registry import lookup

SHARD_BYTES = 256 * 2**20
"""Size of a shard, about. TensorFlow Datasets advises 64 MiB to 1 GiB
(tensorflow_datasets/core/utils/shard_utils.py)."""

CHUNK = 256
"""Examples handed to the library at a time: it writes its description anew after each time."""

VERSION = "1.0.0"


def check_out(out: Path) -> None:
    """Raise a DataError unless a data set can be written at `out`: a new or empty folder."""
    check_free(out, "OUT", DataError)


def write_dataset(prepared: Prepared, out: Path, progress: Progress) -> None:
    """Write the examples of `prepared`, part by part, as a data set in the folder `out`.

    It is written beside `out` and put there when it is whole. Few images are in memory at a time.

    Raises:
        DataError: `out` is not empty or cannot be written; a file has changed since it was scanned,
            or an array holds values that are no whole numbers.
    """
    check_out(out)
    out = out.absolute()
    try:
        with folder_draft(out, partial(progress.say, "prepare")) as draft:
            _write(prepared, draft, progress)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", str(error))
        raise DataError(f"OUT {out}: cannot be written: {reason}") from error


def _write(prepared: Prepared, folder: Path, progress: Progress) -> None:
    import tensorflow_datasets as tfds

    parts = {
        names[0]: sorted(group, key=lambda e: (prepared.scan.digests[e.id], e.id))
        for part, names in PARTS.items()
        if (group := getattr(prepared.split, part))
    }
    found = {key: value for key, value in prepared.scan_json().items() if key != "splits"}
    facts = {id_: look.facts for id_, look in prepared.scan.findings.items() if look.facts}
    prepared.scan.findings.clear()  # told; some hundred bytes an image
    label, encode = _label_feature(prepared)
    features = {IMAGE: tfds.features.Image(), "label": label, "id": tfds.features.Text()}
    identity = tfds.core.dataset_info.DatasetIdentity(
        _identifier(prepared.source.name), tfds.core.Version(VERSION), str(folder), "tlkit"
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"{prepared.source.name}, prepared by tlkit",
        features=tfds.features.FeaturesDict(features),
        supervised_keys=(IMAGE, "label"),
    )
    writer = tfds.core.SequentialWriter(
        info, _per_shard(next(iter(parts.values()))), file_format="tfrecord"
    )
    writer.initialize_splits(list(parts))
    for split, group in parts.items():
        with progress.bar("prepare", f"writing {split}", len(group)) as advance:
            for rows in _chunks(group, prepared.scan.digests, facts, index_file(folder, split)):
                examples = [
                    {IMAGE: content, "label": encode(e.label), "id": e.id} for e, content in rows
                ]
                writer.add_examples({split: examples})
                advance(len(rows))
        writer.close_splits([split])
    about = {"format": FORMAT, "task": prepared.spec.task, "outputs": prepared.source.outputs}
    about |= prepared.source.settled
    about["digests"] = described(folder)
    text = json.dumps({**about, **found}, indent=2, ensure_ascii=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def _chunks(
    group: list[Example], digests: dict[str, str], facts: dict[str, Facts], index: Path
) -> Iterator[list[tuple[Example, bytes]]]:
    """Yield examples with their encoded images, and write the index as they go."""
    with index.open("w", encoding="utf-8") as file:
        for start in range(0, len(group), CHUNK):
            rows = []
            for example in group[start : start + CHUNK]:
                content = _encoded(example, digests[example.id])
                # The order of the records is that of the scanned digests; an array's own is new.
                label = index_label(example.label)
                row = [example.id, label, content_digest(content), example.group]
                row += [known] if (known := facts.get(example.id)) else []
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                rows.append((example, content))
            yield rows


def _encoded(example: Example, digest: str) -> bytes:
    if example.pixels is not None:
        return _as_png(example)
    content = example.read()
    if content_digest(content) != digest:
        raise DataError(f"data {example.id}: has changed since it was scanned; start again")
    return content


def _as_png(example: Example) -> bytes:
    whole = np.rint(example.pixels).astype(np.uint8)
    if not np.array_equal(whole, example.pixels):
        raise DataError(
            f"data {example.id}: a prepared image holds whole numbers from 0 to 255. "
            f"Received: {example.pixels.dtype} with fractions"
        )
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "PNG")
    return file.getvalue()


def _label_feature(prepared: Prepared) -> tuple[Any, Callable[[Any], Any]]:
    """Return the feature that holds the labels of the task, and what makes its value of one."""
    from tensorflow_datasets import features

    outputs, labels = list(prepared.source.outputs), lookup(prepared.spec.task).labels
    if labels.stored is None:
        raise DataError(
            f"data prepare: labels of the task {prepared.spec.task} cannot be written. Allowed: "
            "the data as it is"
        )
    if labels.stored == "mask":  # the file as it is, of whatever form
        return features.Text(), prepared.reading.read_label
    if labels.stored == "numbers":
        shape = (len(outputs),)
        return features.Tensor(shape=shape, dtype=np.float32), lambda x: np.array(x, np.float32)
    number = {name: i for i, name in enumerate(outputs)}
    try:
        classes = features.ClassLabel(names=outputs)
    except ValueError as error:
        raise DataError(f"data {prepared.source.name}: {error}") from error
    if labels.stored == "boxes":
        return features.Sequence({"bbox": features.BBoxFeature(), "label": classes}), _objects
    if labels.stored == "names":
        return features.Sequence(classes), lambda labels: [number[x] for x in labels]
    return classes, number.__getitem__


def _objects(label: Annotations) -> list[dict[str, Any]]:
    """Return boxes as TensorFlow Datasets has them: fractions of height and width."""
    from tensorflow_datasets import features

    found = []
    for box in label.boxes:
        left, top, right, low = (
            x / (label.height if i % 2 else label.width) for i, x in enumerate(box.corners)
        )
        found.append({"bbox": features.BBox(top, left, low, right), "label": box.name})
    return found


def _identifier(name: str) -> str:
    """Return a name for a data set as TensorFlow Datasets takes it: lower case, no blanks."""
    cleaned = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return cleaned if cleaned[:1].isalpha() else f"data_{cleaned}".rstrip("_")


def _per_shard(examples: list[Example]) -> int:
    """Return how many examples make a shard, by the size of the first ones."""
    sample = examples[:CHUNK]
    mean = sum(len(example.read()) for example in sample) / len(sample)
    return max(1, int(SHARD_BYTES / max(1, mean)))
