"""The columns of a table: which are needed, and what to type where they have other names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from tlkit.data.flags import are_flags, flagged
from tlkit.data.readers.rows import SEPARATORS, Rows
from tlkit.data.targets import Targets
from tlkit.errors import DataError, did_you_mean

USUAL = {
    "image": (
        *("image_id", "id", "filename", "file_name", "file", "filepath", "file_path", "path"),
        *("image_path", "image_name", "img", "img_path", "name", "picture", "photo"),
    ),
    "label": (
        *("class", "category", "target", "species", "diagnosis", "dx", "label_id", "class_id"),
        *("class_name", "category_id", "labels", "tags", "y", "breed", "cultivar", "choice"),
    ),
}
"""What columns with images and labels are called in other people's tables."""


def check_columns(
    path: Path, found: Rows, targets: Targets, needed: Sequence[str], also: Sequence[str] = ()
) -> None:
    """Refuse a table without the columns that are needed, saying what to type.

    Args:
        needed: columns that must be there.
        also: columns that are read where they are there.

    Raises:
        DataError: a needed column is missing, or one that is read is there twice.
    """
    for name in (*needed, *also):
        if (count := found.header.count(name)) > 1:
            raise DataError(
                f"data {path}: the column {name} is there {count} times; rename all but one. "
                f"Received: {', '.join(found.header)}"
            )
    missing = [name for name in needed if name not in found.header]
    if missing:
        hint = _hint(found, targets, missing)
        raise DataError(
            f"data {path}: lacks the column {' and '.join(missing)}.{hint} "
            f"Allowed: {', '.join(needed)} and, if wanted, {', '.join(also)}, separated by commas, "
            "semicolons, tabs or bars, named in the first line. "
            f"Received: {', '.join(found.header) or 'nothing'}"
        )
    if not found.rows:
        raise DataError(f"data {path}: has no rows below its header")


def _hint(found: Rows, targets: Targets, missing: Sequence[str]) -> str:
    """Return a sentence that says what is likely meant, or nothing."""
    header = found.header
    inside = [sign for sign in SEPARATORS if len(header) == 1 and sign in header[0]]
    if inside:
        name = "tab" if inside[0] == "\t" else inside[0]
        return f' Its columns seem to be separated otherwise: --set "table.delimiter={name}"'
    if header and re.search(r"\.\w{3,4}$", header[0]):
        return f" The first line looks like a row: put {','.join(missing)} above it."
    for name in missing:
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and set(parts) <= set(header):
            return f' Did you mean --set "table.targets=[{", ".join(parts)}]"?'
    table, settings = targets.table, []
    images = table.image
    for field in ("image", "label"):
        name = getattr(table, field)
        usual = _usual(field, name, header) if name in missing else []
        if len(usual) > 1:
            return f" Which of {', '.join(usual)} is {field}? --set table.{field}=NAME."
        if usual:
            settings.append(f"--set {_quoted(f'table.{field}={usual[0]}')}")
            images = usual[0] if field == "image" else images
        elif name in missing and field == "label":
            settings += _as_flags(found, targets, images)
    if settings:
        return f" Did you mean {' '.join(settings)}?"
    return next((hint for name in missing if (hint := did_you_mean(name, header))), "")


def _usual(field: str, name: str, header: Sequence[str]) -> list[str]:
    """Return the columns that are called as such a one usually is."""
    if name != field:  # a person named it: not to be second-guessed by a list
        return []
    plain = {re.sub(r"[\s_-]", "", x.lower()): x for x in header}  # `ClassId`, `class id`
    usual = [plain[y] for x in USUAL[field] if (y := x.replace("_", "")) in plain]
    # A path says more than an id or a name, which may be of anything.
    return [x for x in usual if x.lower() not in ("id", "name")] or usual


def _as_flags(found: Rows, targets: Targets, images: str) -> list[str]:
    """Return settings for a table with a column of 0 and 1 for each label, beside the images'."""
    cells = [row for _, row in found.rows]
    left = [name for name in found.header if name and name != images]
    columns = [name for name in left if cells and are_flags(row[name] for row in cells)]
    if len(columns) < 2 or targets.named_by:  # numbers take any column
        return []
    names = ", ".join(map(_as_yaml, columns))
    settings = [f"--set {_quoted(f'table.targets=[{names}]')}"]
    counts = {len(flagged(row, columns, "negative", "")) for row in cells}
    if targets.kind is str and counts != {1}:
        settings.append("--set task=multilabel")
    if any(row[x] in ("", "-1", "-1.0") for row in cells for x in columns):
        settings.append("--set table.uncertain=negative (or positive)")
    return settings


def _as_yaml(name: str) -> str:
    """Return a name as a member of a list in YAML: in quotes where it would be something else."""
    try:
        plain = yaml.safe_load(f"[{name}]") == [name]
    except yaml.YAMLError:
        plain = False
    return name if plain else json.dumps(name, ensure_ascii=False)


def _quoted(setting: str) -> str:
    """Return a setting as a shell takes it."""
    if re.fullmatch(r"[\w.=-]+", setting):
        return setting
    return f"'{setting}'" if '"' in setting else f'"{setting}"'
