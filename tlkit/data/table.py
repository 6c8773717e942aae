"""Examples from a CSV file with the columns `image` and `label`, and perhaps `split`."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

from tlkit.data.sources import PARTS, Example
from tlkit.data.targets import Label, Targets, printable
from tlkit.errors import DataError

SPLIT = "split"


def table_parts(path: Path, targets: Targets) -> dict[str, list[Example]]:
    """List the examples of a CSV file.

    Columns, unless the spec names others: `image`, a path relative to the CSV and, unless
    `table.outside` is set, inside its folder (links in it are followed); `label`; and, if the
    parts are given, `split` with train, validation (val, valid) or test in every row. If the
    spec names a column for groups, its value says which images belong together; empty: none.

    Raises:
        DataError: the file is not UTF-8 text, a column is missing, or a row has no label, an
            unknown split or a path that leads out of the folder.
    """
    rows, columns = _read(path)
    group = targets.table.group
    required = [targets.table.image, *targets.columns(), *([group] if group else [])]
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(
            f"data {path}: lacks the column {' and '.join(missing)}. "
            f"Allowed: {', '.join(required)} and, if wanted, {SPLIT}, separated by commas. "
            f"Received: {', '.join(columns) or 'nothing'}"
        )
    root = path.resolve().parent
    parts: dict[str, list[Example]] = {}
    seen: dict[tuple[str, Label], str] = {}
    groups: dict[str, str | None] = {}
    for number, row in enumerate(rows, start=2):  # the first line is the header
        part, example = _example(row, root, targets, f"data {path}, line {number}")
        if seen.setdefault((example.id, example.label), part) != part:
            raise DataError(f"data {path}, line {number}: {example.id} stands in two splits")
        if groups.setdefault(example.id, example.group) != example.group:
            raise DataError(
                f"data {path}, line {number}: {example.id} stands in two groups. Allowed: one "
                f"{group} for each image. Received: {groups[example.id]!r} and {example.group!r}"
            )
        parts.setdefault(part, []).append(example)
    if "train" not in parts:
        raise DataError(f"data {path}: has no training rows. Received: {len(rows)} rows")
    return {part: _once(examples) for part, examples in parts.items()}


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
            return rows, list(reader.fieldnames or ())
    except OSError as error:
        raise DataError(f"data {path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data {path}: is not a CSV file in UTF-8: {error}") from error


def _example(row: dict[str, str], root: Path, targets: Targets, where: str) -> tuple[str, Example]:
    image = row[targets.table.image]
    if not image:
        raise DataError(f"{where}: {targets.table.image} is empty")
    if "\0" in image:
        raise DataError(f"{where}: {targets.table.image} holds a NUL byte. Received: {image!r}")
    # By the text alone: `a/../../b` leads out whatever `a` may be, a link in the folder does not.
    file = Path(os.path.normpath(root / image))
    if not targets.table.outside and not file.is_relative_to(root):
        raise DataError(
            f"{where}: the image lies outside the folder of the CSV. Allowed: paths inside it, or "
            f"any with --set table.outside=true. Received: {image!r}"
        )
    split = row.get(SPLIT, "") or "train"
    part = next((part for part, names in PARTS.items() if split.lower() in names), None)
    if part is None:
        raise DataError(
            f"{where}: unknown split. Allowed: train, validation (val, valid), test. "
            f"Received: {split!r}"
        )
    label = targets.from_row(row, where)
    column = targets.table.group
    group = (column and printable(row[column])) or None
    return part, Example(printable(Path(image).as_posix()), label, file, group=group)


def _once(examples: list[Example]) -> list[Example]:
    """Drop repeated rows, and tell rows apart that give one picture two labels."""
    once = {(example.id, example.label): example for example in examples}
    labels: dict[str, int] = {}
    kept = []
    for (id_, _), example in once.items():
        labels[id_] = labels.get(id_, 0) + 1
        name = id_ if labels[id_] == 1 else f"{id_}#{labels[id_]}"
        kept.append(replace(example, id=name))
    return kept
