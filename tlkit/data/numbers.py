"""Numbers in the cells of a table, and the decimal comma of spreadsheets."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tlkit.errors import DataError, received

_COMMA = re.compile(r"[+-]?\d+,\d+")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
"""What may be a number with a comma between its thousands."""


def has_decimal_comma(cells: Sequence[str], separator: str) -> bool:
    """Tell whether the numbers of a table are written with a decimal comma, surely.

    Surely: commas do not separate its columns, each number with a comma has one, no other number
    has a point, and they cannot all be thousands (`1,234`).
    """
    commas = [cell for cell in cells if "," in cell]
    return (
        bool(commas)
        and separator != ","
        and all(map(_COMMA.fullmatch, commas))
        and not any("." in cell for cell in cells)
        and not all(map(_GROUPED.fullmatch, commas))
    )


def read_number(value: Any, where: str, comma: bool = False) -> float:
    """Return a cell, or a number beside an array, as a float.

    Args:
        comma: whether the decimal sign is a comma.

    Raises:
        DataError: it is no finite number, or its digits are grouped.
    """
    text = value.replace(",", ".") if comma and isinstance(value, str) else value
    try:
        number = math.nan if isinstance(text, str) and "_" in text else float(text)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    hint = ""
    if isinstance(value, str) and "," in value:
        hint = (
            " Allowed: a decimal point, nothing between thousands (a decimal comma where columns "
            "are separated otherwise, no number has a point, and 1,234 is not all there is)."
        )
    raise DataError(f"{where}: must be a number.{hint} Received: {received(value)}")
