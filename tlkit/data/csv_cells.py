"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet takes for a formula, and may run: OWASP, "CSV
Injection"."""


def csv_cell(value: Any) -> Any:
    """Return a value as it may stand in a CSV file that is opened in a spreadsheet.

    A name that begins as a formula does gets an apostrophe in front; single signs and numbers,
    such as the classes `+` and `-1`, stay as they are. JSON has names unchanged.
    """
    if not isinstance(value, str) or len(value) < 2 or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
