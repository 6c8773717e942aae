"""Examples from a table: a CSV file with the columns `image` and `label`, and perhaps `split`."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tlkit.data.example import Example, Listing
from tlkit.data.flags import are_flags
from tlkit.data.readers.columns import check_columns
from tlkit.data.readers.folder_names import is_plain, part_of
from tlkit.data.readers.locate import Finder, locate
from tlkit.data.readers.rows import Rows, read_rows
from tlkit.data.targets import Targets, printable
from tlkit.data.wording import few, number
from tlkit.errors import DataError

SPLIT = "split"

MOST_PARTS = 6
"""Different cells of a column that may say the parts, such as FER2013's `PublicTest`."""

_FLAG_OF_PART = re.compile(r"(is_?)?(train(ing)?|test|val(id(ation)?)?)(_?(set|image))?", re.I)


def read_table(path: Path, targets: Targets) -> Listing:
    """List the examples of a table.

    Columns, unless the spec names others: `image`, a path relative to the table (or to
    `table.folder`) and, unless `table.outside` is set, inside its folder (links in it are
    followed); `label`; and, if the parts are given, `split` with the part of each row, named as
    folders of parts are (nothing: train). What is guessed about encoding, separator, header, parts,
    labels and files is in the notes. If the spec names a column for groups, its value says which
    images belong together; empty: none.

    Raises:
        DataError: the file is no table, a column is missing, none of the images is there, or a
            row has no label (see `table.unlabelled`), an unknown split or a path that leads out of
            the folder.
    """
    root = path.resolve().parent
    bases = _bases(root, targets)
    finder = Finder(bases)
    group = targets.table.group
    wanted = [targets.table.image, *targets.columns(), *([group] if group else [])]
    found = read_rows(path, targets.table, wanted, lambda x: finder.find(x) is not None, [SPLIT])
    check_columns(path, found, targets, wanted, also=[SPLIT])
    where = f"data {path}"
    found.rows, left_out = _labelled(found.rows, targets, where)
    targets, notes = targets.survey([row for _, row in found.rows], found.separator, where)
    entries = [
        _example(row, [root, *bases], targets, f"{where}, line {line}") for line, row in found.rows
    ]
    files, guessed = locate(
        [row[targets.table.image] for _, row in found.rows],
        finder,
        targets.table.image,
        where,
        guess=not targets.table.folder,
    )
    parts: dict[str, list[Example]] = {}
    seen: dict[str, str] = {}
    groups: dict[str, str | None] = {}
    for (line, row), (part, example) in zip(found.rows, entries, strict=True):
        file = files.get(row[targets.table.image])
        if file is not None:
            example = replace(example, id=_id(file, root, example.id), path=file)
        if seen.setdefault(example.id, part) != part:
            raise DataError(f"{where}, line {line}: {example.id} stands in two splits")
        if groups.setdefault(example.id, example.group) != example.group:
            raise DataError(
                f"{where}, line {line}: {example.id} stands in two groups. Allowed: one "
                f"{group} for each image. Received: {groups[example.id]!r} and {example.group!r}"
            )
        parts.setdefault(part, []).append(example)
    if "train" not in parts:
        raise DataError(f"{where}: has no training rows. Received: {len(found.rows)} rows")
    told = _say_splits(found, wanted)
    if len(seen) < len(found.rows) and not targets.table.targets and targets.join([()]) is not None:
        told += _say_flags(found, wanted)
    notes = [*found.notes, *left_out, *told, *notes, *guessed]
    once = {part: _once(examples, targets, notes) for part, examples in parts.items()}
    return Listing(printable(path.stem), once, notes)


def _labelled(
    rows: list[tuple[int, dict[str, str]]], targets: Targets, where: str
) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Return the rows that have a label, and a note on the others.

    Raises:
        DataError: there are others, and `table.unlabelled` does not say that they are left out.
    """
    kept = [(line, row) for line, row in rows if targets.is_labelled(row)]
    lines = [f"{line}" for line, row in rows if not targets.is_labelled(row)]
    if not lines:
        return rows, []
    columns, count = targets.columns(), number(len(lines), "row")
    empty = f"{columns[0]} is empty" if len(columns) == 1 else f"{few(columns)} are empty"
    if targets.table.unlabelled == "drop" and kept:
        lines_ = f"line{'s' if len(lines) > 1 else ''} {few(lines)}"
        return kept, [f"{count} without a label left out, as {empty}: {lines_}"]
    others = f", as in {number(len(lines) - 1, 'more row')} ({few(lines[1:])})" if lines[1:] else ""
    way = "rows with a label"
    if kept:
        way = "a label in each row, or --set table.unlabelled=drop: they are left out"
    raise DataError(
        f"{where}, line {lines[0]}: {empty}{others}. Allowed: {way}. Received: "
        f"{len(kept):,} of {number(len(rows), 'row')} with a label"
    )


def _bases(root: Path, targets: Targets) -> list[Path]:
    """Return the folders that paths are relative to."""
    folders = [Path(os.path.normpath(root / name)) for name in targets.table.folder]
    for name, folder in zip(targets.table.folder, folders, strict=True):
        if not folder.is_dir():
            raise DataError(
                f"table.folder: must be a folder, relative to the table. Received: {name!r}; "
                f"tried {printable(str(folder))}"
            )
    return folders or [root]


def _example(
    row: dict[str, str], bases: Sequence[Path], targets: Targets, where: str
) -> tuple[str, Example]:
    """Return the part of a row and its example, with the path as it is written.

    Args:
        bases: the folder of the table, then those that paths are relative to.
    """
    image = row[targets.table.image]
    if not image:
        raise DataError(f"{where}: {targets.table.image} is empty")
    if "\0" in image:
        raise DataError(f"{where}: {targets.table.image} holds a NUL byte. Received: {image!r}")
    if not targets.table.outside and not _inside(image, bases):
        raise DataError(
            f"{where}: the image lies outside the folder of the CSV. Allowed: paths inside it, or "
            f"any with --set table.outside=true. Received: {image!r}"
        )
    split = row.get(SPLIT, "") or "train"
    part = part_of(split)
    if part is None:
        raise DataError(
            f"{where}: unknown split. Allowed: train, validation (val, valid), test. "
            f"Received: {split!r}"
        )
    label = targets.from_row(row, where)
    file = Path(os.path.normpath(bases[1] / image))
    column = targets.table.group
    group = (column and printable(row[column])) or None
    return part, Example(printable(Path(image).as_posix()), label, file, group=group)


def _inside(image: str, bases: Sequence[Path]) -> bool:
    """Tell whether a path stays in a folder, read with slashes and with backslashes.

    By the text alone: `a/../../b` leads out whatever `a` may be, a link in the folder does not.
    """
    return all(
        any(_below(os.path.normpath(os.path.join(base, text)), base) for base in bases)
        for text in {image, image.replace("\\", "/")}
    )


def _below(path: str | Path, folder: Path) -> bool:
    """Tell whether a path is below a folder; by text, for a hundred thousand rows."""
    return os.fspath(path).startswith(os.path.join(folder, ""))


def _id(file: Path, root: Path, written: str) -> str:
    """Return the id of an image: its path relative to the table, where it has one."""
    if _below(file, root):
        return printable(os.fspath(file)[len(os.path.join(root, "")) :].replace(os.sep, "/"))
    return (
        written
        if os.path.isabs(written)
        else printable(Path(os.path.relpath(file, root)).as_posix())
    )


def _say_splits(found: Rows, wanted: Sequence[str]) -> list[str]:
    """Return notes on what the column `split` says in other words, or that another one says it."""
    if SPLIT in found.header:
        cells = Counter(row[SPLIT] for _, row in found.rows)
        others = {x: part for x in cells if (part := part_of(x)) and not is_plain(x, part)}
        notes = []
        if others:
            read = ", ".join(f"{printable(x)} as {part}" for x, part in others.items())
            notes.append(f"parts by their names: {read}")
        if cells[""]:
            notes.append(f"{cells['']:,} rows with nothing in the column {SPLIT} are training rows")
        return notes
    notes = []
    for name in dict.fromkeys(found.header):
        cells = {row[name] for _, row in found.rows}
        flags = _FLAG_OF_PART.fullmatch(name.strip()) and are_flags(cells) and len(cells) > 1
        parts = len(cells) <= MOST_PARTS and {part_of(x) for x in cells}
        if name not in wanted and (flags or (parts and len(parts) > 1 and "train" in parts)):
            notes.append(f"column {name} seems to say the parts; only one called {SPLIT} is read")
    return notes


def _say_flags(found: Rows, wanted: Sequence[str]) -> list[str]:
    """Return a note for each column that may say of a row that its label is not there.

    So does `Confidence` in the tables of Open Images, with a row for each label looked for.
    """
    notes = []
    for name in dict.fromkeys(found.header):
        cells = {row[name] for _, row in found.rows}
        if name not in wanted and len(cells) > 1 and are_flags(cells):
            notes.append(
                f"column {name} of 0 and 1 is not read: a label counts in rows with 0 there, too"
            )
    return notes


def _once(examples: list[Example], targets: Targets, notes: list[str]) -> list[Example]:
    """Join or drop repeated rows, or tell rows apart that give one image two labels."""
    rows: dict[tuple[str, Path | None], list[Example]] = defaultdict(list)
    for example in examples:
        rows[example.id, example.path].append(example)
    kept, joined, repeated = [], 0, 0
    named: Counter[str] = Counter()
    for own in rows.values():
        labels = list(dict.fromkeys(example.label for example in own))
        repeated += len(own) - len(labels)
        if len(labels) > 1 and (label := targets.join(labels)) is not None:
            joined += len(labels) - 1
            labels = [label]
        for label in labels:
            id_ = own[0].id
            named[id_] += 1
            name = id_ if named[id_] == 1 else f"{id_}#{named[id_]}"
            kept.append(replace(own[0], id=name, label=label))
    if repeated:
        notes.append(f"{repeated:,} rows repeat another one, label and all; they count once")
    if joined:
        notes.append(
            f"{joined:,} rows name an image again; it counts once, with the labels of all its rows"
        )
    return kept
