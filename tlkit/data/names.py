"""Names of classes and labels: what may be one, their order, and what numbers stand for them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tlkit.data.flags import flags_in, the_one
from tlkit.errors import DataError, printable, received

LONGEST = 255
"""Characters that a label may have: as many as a folder's name."""


def checked(text: str, where: str) -> str:
    """Return a name that can be printed.

    Raises:
        DataError: it is too long to be one.
    """
    if len(text) > LONGEST:
        raise DataError(
            f"{where}: is no name of a class. Allowed: up to {LONGEST} characters. "
            f"Received: {len(text):,}, beginning with {text[:20]!r}"
        )
    return label_name(text)


def label_name(text: str) -> str:
    """Return the label that a name stands for: printable, without blanks around it, in one form.

    Unicode has two forms of an accented letter (UAX 15); macOS makes names of files in one, others
    in the other, and on the screen they are the same.
    """
    return printable(unicodedata.normalize("NFC", text.strip(" ") or text))


def sorted_labels(labels: Iterable[str]) -> list[str]:
    """Sort labels; those that are all whole numbers by their value, so that 2 precedes 10."""
    found = set(labels)
    numeric = all(label.isdecimal() for label in found)
    return sorted(found, key=lambda label: (int(label) if numeric else 0, label))


def in_order(name: str, found: set[str], option: str, declared: Sequence[str]) -> tuple[str, ...]:
    """Return the names that were declared, in their order; or those found, sorted.

    Args:
        name: of the data, for the message.
        option: where they were declared.

    Raises:
        DataError: a name was declared that no training image has, or another found.
    """
    if not declared:
        return tuple(sorted_labels(found))
    if missing := [x for x in declared if x not in found]:
        raise DataError(
            f"{name}: no training image is labelled with {', '.join(map(repr, missing))}; leave "
            f"it out of {option}, or add images. Received: {', '.join(declared)}"
        )
    if unknown := found - set(declared):
        raise DataError(
            f"{name}: {option} lacks labels of the training data. "
            f"Allowed: {', '.join(sorted_labels(found))}. Received: {', '.join(declared)} without "
            f"{', '.join(sorted_labels(unknown))}"
        )
    return tuple(declared)


def class_in_array(value: Any, names: Sequence[str], where: str) -> str:
    """Return the class that stands beside an image: a whole number, a one-hot row or a name.

    Args:
        names: of the classes 0, 1, ...; empty: they are called by their numbers.

    Raises:
        DataError: it is none of these, or has no name.
    """
    array = np.asarray(value)
    if array.dtype.kind in "biuf" and array.size > 1:
        return _named(
            the_one(_places(array.ravel(), names, where), array.size, where), names, where
        )
    if array.size != 1:
        raise DataError(f"{where}: needs one class. Received: {received(value)}")
    item = array.reshape(()).item()
    if isinstance(item, bool) and not names:
        return str(item)
    if not isinstance(item, int | float):
        return _text(item, where)
    if not math.isfinite(item) or item != int(item):
        raise DataError(
            f"{where}: is no number of a class (numbers to predict: task=regression). "
            f"Allowed: whole numbers. Received: {item}"
        )
    return _named(int(item), names, where)


def labels_in_array(value: Any, names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the labels that stand beside an image: a row of 0 and 1, or a list of names.

    Args:
        names: of the places in the row; empty: they are called by their numbers.

    Raises:
        DataError: it is neither.
    """
    array = np.asarray(value)
    if array.dtype.kind in "biuf" and array.ndim == 1 and array.size:
        return tuple(sorted(_named(i, names, where) for i in _places(array, names, where)))
    if array.size and array.dtype.kind not in "USO":
        raise DataError(
            f"{where}: needs a row of 0 and 1, one for each label, or a list of names. "
            f"Received: {received(value)}"
        )
    return tuple(sorted({_text(item, where) for item in array.ravel().tolist()}))


def _named(number: int, names: Sequence[str], where: str) -> str:
    if not names:
        return str(number)
    if not 0 <= number < len(names):
        raise DataError(
            f"{where}: has no name in class_names. Allowed: 0 to {len(names) - 1} "
            f"({', '.join(names)}). Received: {number}"
        )
    return names[number]


def _places(row: np.ndarray, names: Sequence[str], where: str) -> list[int]:
    """Return where the ones of a row are, which has a place for each name."""
    if names and len(row) != len(names):
        raise DataError(
            f"{where}: needs a place for each of class_names. Allowed: {len(names)}. "
            f"Received: {len(row)}"
        )
    return flags_in(row, where)


def _text(item: Any, where: str) -> str:
    """Return a name that stands in an array: text, or its bytes in UTF-8."""
    text = item.decode(errors="surrogateescape") if isinstance(item, bytes) else item
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: is no name of a class. Received: {received(item)}")
    return checked(text, where)
