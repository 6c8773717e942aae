"""What an evaluation is made on: data without parts, or a test part; no training part unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tlkit.data.example import Example, Listing
from tlkit.data.readers.folder_names import part_of
from tlkit.data.readers.form import is_dataset
from tlkit.data.readers.open import open_listing
from tlkit.data.targets import CLASSES, Targets
from tlkit.data.wording import number
from tlkit.errors import DataError, printable


def open_labelled(
    data: Any, outputs: tuple[str, ...], targets: Targets = CLASSES
) -> tuple[list[Example], list[str], str | None]:
    """List all examples of `data` for an evaluation: without parts, or its test part.

    Groups do not matter here: nothing is split.

    Returns:
        The examples, the notes of `Listing` with one on what was taken of parts, and the part
        that was taken; None: there are no parts.

    Raises:
        DataError: it has parts, and none for testing: a training part is not taken unasked; or it
            holds what a model with `outputs` cannot answer.
    """
    targets = replace(targets, table=targets.table.model_copy(update={"group": None}))
    listing = open_listing(data, targets)
    examples = listing.parts["test" if "test" in listing.parts else "train"]
    if "test" not in listing.parts and _has_parts(data, listing):
        shown = data if isinstance(data, str | Path) else "DATA"
        first = {part: group[0].id.split("/")[0] for part, group in listing.parts.items() if group}
        by_name = " or ".join(f"{shown}/{name}" for name in first.values())
        ways = by_name if _is_folder(data) else "data without parts"
        raise DataError(
            f"evaluation data {printable(str(shown))}: has no test part, and a training part is no "
            f"test. Allowed: data with a test part, or {ways}. Received: {', '.join(listing.parts)}"
        )
    targets.check(listing.name, "evaluation", examples, outputs)
    if "test" not in listing.parts:
        return examples, listing.notes, None
    others = [f"{part} {len(group):,}" for part, group in listing.parts.items() if part != "test"]
    aside = f"; not measured: {', '.join(others)}" if others else ""
    note = f"of {listing.name} its test part is measured, {number(len(examples), 'image')}{aside}"
    return examples, [*listing.notes, note], "test"


def _has_parts(data: Any, listing: Listing) -> bool:
    """Tell whether what was listed is a part of `data`, even if it is the only one."""
    if len(listing.parts) > 1:
        return True
    names = {example.id.split("/")[0] for example in listing.parts["train"]}
    return _is_folder(data) and len(names) == 1 and part_of(names.pop()) == "train"


def _is_folder(data: Any) -> bool:
    """Tell whether `data` names a folder of images, whose ids begin with its folders' names."""
    path = Path(data) if isinstance(data, str | Path) else None
    return path is not None and path.is_dir() and not is_dataset(path)
