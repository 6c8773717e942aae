"""Columns and rows of 0 and 1, one for each class or label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlkit.errors import DataError, received

_CELLS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1}
"""What a cell may say; -1: uncertain (CheXpert's labels, Irvin et al. 2019, section 2)."""


def are_flags(cells: Iterable[str]) -> bool:
    """Tell whether all cells of a column say 0, 1, -1 or nothing, and one of them 0 or 1."""
    found = {cell.lower() for cell in cells}
    return found <= {*_CELLS, ""} and any(_CELLS.get(cell, -1) >= 0 for cell in found)


def flagged(row: dict[str, str], columns: Sequence[str], uncertain: str, where: str) -> list[str]:
    """Return the columns that say 1 in a row of a table.

    Args:
        uncertain: `negative` or `positive`: -1 is read as 0 or as 1 and an empty cell, which says
            that nothing was found out, as 0 in both (U-Zeros and U-Ones of Irvin et al. 2019,
            section 3.1); `error`: both are refused.

    Raises:
        DataError: a cell says something else; names line and column.
    """
    given = []
    for name in columns:
        cell = row[name].lower()
        if cell in ("", "-1", "-1.0") and uncertain == "error":
            raise DataError(
                f"{where}: {name} is uncertain. Allowed: 0 and 1, or table.uncertain set to "
                "negative (-1 and empty cells are 0) or positive (-1 is 1, empty cells 0). "
                f"Received: {row[name]!r}"
            )
        value = _CELLS.get(cell) if cell else 0
        if value is None:
            raise DataError(f"{where}: {name} must be 0 or 1. Received: {received(row[name])}")
        if value == 1 or (value == -1 and uncertain == "positive"):
            given.append(name)
    return given


def say_uncertain(
    rows: Sequence[dict[str, str]], columns: Sequence[str], uncertain: str
) -> list[str]:
    """Return a note of how many cells are read by `uncertain`, where it is asked for."""
    if uncertain == "error":
        return []
    counts = Counter(row[name] for row in rows for name in columns)
    minus, empty = counts["-1"] + counts["-1.0"], counts[""]
    return [
        f"table.uncertain={uncertain}: {minus:,} cells of -1 are read as "
        f"{int(uncertain == 'positive')}, {empty:,} empty ones as 0"
    ]


def flags_in(row: np.ndarray, where: str) -> list[int]:
    """Return the places of the ones in a row of numbers.

    Raises:
        DataError: there are others than 0 and 1.
    """
    if not np.isin(row, (0, 1)).all():
        raise DataError(f"{where}: must be 0 or 1 in each place. Received: {_shown(row)}")
    return [int(i) for i in np.flatnonzero(row)]


def _shown(row: np.ndarray) -> str:
    return received(row.tolist())


def the_one(found: Sequence[Any], total: int, where: str) -> Any:
    """Return the only member of `found`, the ones of a one-hot row.

    Raises:
        DataError: there are none or several.
    """
    if len(found) != 1:
        raise DataError(
            f"{where}: needs exactly one 1 among {total} classes (several: --set task=multilabel). "
            f"Received: {', '.join(map(str, found[:5])) or 'none'}"
        )
    return found[0]
