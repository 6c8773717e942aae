"""Where examples come from: folders, the embedded example sets, arrays, tf.data sets."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tlkit.data.example import Listing, Source, count_labels
from tlkit.data.groups import check_groups, grouped_by
from tlkit.data.readers.form import form_of, is_dataset, is_table
from tlkit.data.readers.rows import TABLES
from tlkit.data.targets import CLASSES, Targets, printable
from tlkit.data.wording import few, number
from tlkit.errors import DataError

UNKNOWN = {"nan", "n/a", "#n/a", "na", "null", "?", "-", "<na>"}
"""What tables have in the place of a label that is missing, in lower case."""

ALLOWED = (
    "a folder of class folders, or one with train, validation (val, valid) and test folders; a CSV "
    "file (.csv, .tsv, .txt) with image and label columns; a folder with boxes (Pascal VOC, "
    "COCO, YOLO); a zip file of such a folder; a folder "
    "made by tlkit data prepare; tfds:NAME"
)


def open_source(
    data: Any,
    val: Any = None,
    test: Any = None,
    targets: Targets = CLASSES,
    group: str | None = None,
) -> Source:
    """List the examples of `data`, and of `val` and `test` where these are data of their own.

    Args:
        data: a folder, a CSV file, `tfds:NAME[/config][:split]`, `example:NAME`, an `(images,
            labels)` pair or a `tf.data.Dataset`.
        val, test: the same, or None where they are to be split off.
        targets: how labels are read.
        group: a regular expression, found in the ids of examples that belong together: its first
            capture group, or the whole match, names their group. The ids are those in the data
            itself: without the part that is put before those of `val` and `test`.

    Raises:
        DataError: nothing is there, there are fewer than two classes, `val` or `test` have classes
            that the training data lacks, images cannot be grouped as asked, or there are options
            of a table, and none is one.
    """
    _check_table_used([x for x in (data, val, test) if x is not None], targets)
    listing = open_listing(data, targets, group)
    name, parts, notes = listing.name, listing.parts, listing.notes
    targets = listing.targets or targets
    for part, given in (("val", val), ("test", test)):
        if given is not None:
            # All of its examples, whatever its own parts.
            own = open_listing(given, targets, group)
            if part in parts:
                count = number(len(parts[part]), "image")
                notes.append(f"{part}: the data's own, {count}, is not used: another is given")
            parts[part] = [
                replace(e, id=f"{part}/{e.id}") for examples in own.parts.values() for e in examples
            ]
            notes += [f"{part}: {note}" for note in own.notes]
    notes += _alike(count_labels(parts["train"]))
    try:
        outputs = targets.outputs(name, parts["train"])
    except DataError as error:  # the notes say where the other classes are
        raise DataError(". ".join([str(error), *notes])) from error
    for part in ("val", "test"):
        targets.check(name, part, parts.get(part, []), outputs)
    everything = [example for examples in parts.values() for example in examples]
    grouping, told = check_groups(name, everything, targets.table.group, group)
    return Source(name, outputs, parts, (*notes, *told), grouping, targets.settled, listing.facts)


def image_files(folder: Path) -> list[Path]:
    """Return the images below `folder`, sorted, as training lists them: see `tree.Tree`.

    Links to files are followed. A link to a folder is not, or a loop of links would have no end:
    it is returned as if it were a file, so that it is named among what cannot be used.

    Raises:
        DataError: a folder cannot be read.
    """
    from tlkit.data.readers.tree import walk

    return [Path(path) for path in walk(folder).files()]


def _alike(labels: Iterable[str]) -> list[str]:
    """Name labels that differ only in case, blanks or a form of Unicode (UAX 15, NFKC), or in how a
    number is written; and those that say that nothing is known."""
    labels = list(labels)
    alike, numbers = defaultdict(list), defaultdict(list)
    for label in labels:
        alike[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
        if re.fullmatch(r"[+-]?\d+(\.0*)?", label):
            numbers[int(label.partition(".")[0])].append(label)
    notes = []
    for found, what in (
        (alike, "differ only in case or blanks"),
        (numbers, "are the same number"),
    ):
        if same := [" and ".join(map(repr, own)) for own in found.values() if len(own) > 1]:
            name = "if they are one class, give them one name"
            notes.append(f"labels that {what}: {few(same)}; {name}")
    unknown = [x for x in labels if x.casefold() in UNKNOWN or re.fullmatch(r"-\d+", x)]
    if unknown:
        names = few([repr(name) for name in unknown])
        notes.append(f"a class like any other, also if it means unknown: {names}")
    return notes


def open_listing(data: Any, targets: Targets, group: str | None = None) -> Listing:
    """List the examples of one source as it is, whatever its parts.

    Args and Raises: as in `open_source`.
    """
    listing = _listed(data, targets)
    if group is not None:
        parts = {part: grouped_by(group, examples) for part, examples in listing.parts.items()}
        listing = replace(listing, parts=parts)
    examples = [example for part in listing.parts.values() for example in part]
    if not all(isinstance(example.label, targets.kind) for example in examples):
        raise DataError(
            f"data {listing.name}: gives one class an image. Allowed for this task: a CSV file or "
            "arrays"
        )
    return listing


def _listed(data: Any, targets: Targets) -> Listing:
    path = Path(data) if isinstance(data, str | Path) else None
    if form_of(data) == "folder" and path.suffix.lower() == ".zip" and os.path.isfile(path):
        from tlkit.data.readers.archive import unpack

        folder = unpack(path)
        listing = replace(_read(folder, targets), name=printable(path.stem))
        return replace(listing, notes=[f"{path} unpacked into {folder}", *listing.notes])
    return _read(data, targets)


def _read(data: Any, targets: Targets) -> Listing:
    form = form_of(data)
    if (form, targets.family) not in READERS:
        forms = sorted(own for own, family in READERS if family == targets.family)
        raise DataError(
            f"data {data if isinstance(data, str | Path) else form}: is not read for the task "
            f"{targets.task}. Allowed: {', '.join(forms)}. Received: {form}"
        )
    return READERS[form, targets.family](data, targets)


def _check_table_used(given: Sequence[Any], targets: Targets) -> None:
    """Refuse options of a table where no data is one; what was prepared from one takes them."""
    paths = [Path(x) for x in given if isinstance(x, str | Path)]
    unused = {k: v for k, v in targets.table.given().items() if k not in targets.named_by}
    if not unused or any(map(is_table, given)) or any(map(is_dataset, paths)):
        return
    name, value = next(iter(unused.items()))
    raise DataError(
        f"table.{name}: says how a table is read, and the data is none. Allowed: left out, or a "
        f"file {', '.join(TABLES)} as data. Received: {value!r} with data "
        f"{given[0] if isinstance(given[0], str | Path) else type(given[0]).__name__}"
    )


def _example(data: str, targets: Targets) -> Listing:
    from tlkit.data.readers.samples import prepare_example

    return _classes(data.removeprefix("example:"), prepare_example(data))


def _tfds(data: str, targets: Targets) -> Listing:
    from tlkit.data.readers.tfds import tfds_parts

    return Listing(re.split(r"[:/]", data)[1], tfds_parts(data, targets))


def _table(data: str | Path, targets: Targets) -> Listing:
    from tlkit.data.readers.csv_file import read_table

    return read_table(Path(data), targets)


def _dataset(data: str | Path, targets: Targets) -> Listing:
    from tlkit.data.readers.tfds import about_prepared, folder_parts

    path = Path(data)
    parts = folder_parts(path, targets)
    read = targets.prepared(about_prepared(path), f"data {printable(str(path))}")
    return Listing(printable(path.resolve().name), parts, targets=read)


def _folder(data: str | Path, targets: Targets) -> Listing:
    return _classes(printable(Path(data).resolve().name), Path(data))


def _annotated(data: str | Path, targets: Targets) -> Listing:
    from tlkit.data.readers.read_annotated import read_annotated

    if not Path(data).is_file():
        check_folder(Path(data))
    return read_annotated(data, targets)


def _outlines(data: str | Path, targets: Targets) -> Listing:
    from tlkit.data.readers.outlines import read_outlines

    return read_outlines(data, targets)


def _arrays(data: Any, targets: Targets) -> Listing:
    from tlkit.data.readers.arrays import array_listing

    return array_listing(data, targets)


def _classes(name: str, path: Path) -> Listing:
    from tlkit.data.readers.folders import list_folder

    check_folder(path)
    return Listing(name, *list_folder(path))


def _mask_folders(data: str | Path, targets: Targets) -> Listing:
    from tlkit.data.readers.annotated import form_of_annotations
    from tlkit.data.readers.find_task import has_masks
    from tlkit.data.readers.mask_folders import read_mask_folders

    check_folder(Path(data))
    if not has_masks(data) and form_of_annotations(Path(data)):
        return _outlines(data, targets)
    return read_mask_folders(data, targets)


def check_folder(path: Path) -> None:
    """Check that `path` is a folder.

    Raises:
        DataError: it is none, or cannot be read.
    """
    from tlkit.data.readers.archive import refuse_archive

    try:
        if not path.is_dir():
            refuse_archive(path)
            problem = "is not a folder" if path.exists() else "does not exist"
            raise DataError(f"data {path}: {problem}. Allowed: {ALLOWED}")
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise DataError(f"data {path}: cannot be read: {error.strerror}") from error


READERS: dict[tuple[str, str], Callable[[Any, Targets], Listing]] = {
    ("example", "vector"): _example,
    ("tfds", "vector"): _tfds,
    ("table", "vector"): _table,
    ("dataset", "vector"): _dataset,
    ("folder", "vector"): _folder,
    ("arrays", "vector"): _arrays,
    ("folder", "masks"): _mask_folders,
    ("annotations", "masks"): _outlines,
    ("dataset", "masks"): _dataset,
    ("dataset", "boxes"): _dataset,
    ("table", "boxes"): _table,
    ("folder", "boxes"): _annotated,
    ("annotations", "boxes"): _annotated,
}
"""What lists data, by its form and the family of tasks (`Targets.family`)."""
