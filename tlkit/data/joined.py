"""Several labels in one cell: whether they are joined by something else than what was said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tlkit.errors import DataError, printable

OTHERS = (",", ";", " ")
"""What joins labels in other people's tables."""

LONGEST = 2000
"""Characters of a cell that is read as a list; the time that takes grows by the square."""

_ITEM = r"""\s*(?:'[^'\\]*'|"[^"\\]*"|[^\s'",\[\]{}\\][^'",\[\]{}\\]*)\s*"""
_LIST = re.compile(rf"\[({_ITEM}(?:,{_ITEM})*)?\s*\]")
_CHOICES = re.compile(r'\{"choices": *(.*)\}')


def listed(cell: str) -> list[str] | None:
    """Return the labels of a cell that holds a list as Python or JSON write it, else None.

    Label Studio puts several choices into a field of their own.

    >>> listed("['scab', 'rust']"), listed('{"choices": ["a"]}'), listed("scab")
    (['scab', 'rust'], ['a'], None)
    """
    if len(cell) > LONGEST:
        return None
    inside = _CHOICES.fullmatch(cell)
    found = _LIST.fullmatch(inside[1] if inside else cell)
    if not found:
        return None
    return [item.strip().strip("'\"") for item in re.findall(_ITEM, found[1] or "")]


def say_lists(cells: Sequence[str]) -> list[str]:
    """Return a note on the cells that hold lists; nothing where there are none."""
    held = {cell: own for cell in cells if (own := listed(cell)) is not None}
    if not held:
        return []
    cell = max(held, key=lambda x: len(held[x]))
    count = sum(cell in held for cell in cells)
    return [f"{count:,} cells are lists of labels: {cell!r} is read as {', '.join(held[cell])}"]


def say_joined(cells: Sequence[str], column: str) -> list[str]:
    """Return a note where classes look like several labels joined: each piece is a class, too."""
    texts = list(dict.fromkeys(cells))
    known = set(texts)
    for sign in ("|", *OTHERS):
        for text in texts:
            pieces = [piece.strip() for piece in text.split(sign)]
            if len(pieces) > 1 and (sign == "|" or known.issuperset(pieces)):
                return [
                    f"{printable(text)!r} in column {column} is one class; if it is several "
                    f'labels: --set task=multilabel --set "table.separator={sign}"'
                ]
    return []


def check_separator(cells: Sequence[str], separator: str, told: bool, where: str) -> list[str]:
    """Look for another separator where the one that holds is in no cell; return notes.

    A cell looks joined where a piece of it is another cell whole, or all its pieces stand in other
    cells too: `scab rust` beside `scab`, but not `golden retriever` beside `poodle`.

    Args:
        cells: the column of labels.
        told: whether a person named the separator; then it is not called into question.

    Raises:
        DataError: half of the different cells with another separator or more look joined by it.
    """
    texts = list(dict.fromkeys(cell for cell in cells if cell))
    if any(separator in text for text in texts):
        return []
    if told:
        return [f"the separator {separator!r} of labels is in no row"]
    notes = []
    for other in OTHERS:
        pieces = {t: [p for x in t.split(other) if (p := x.strip())] for t in texts}
        held = {text: own for text, own in pieces.items() if len(own) > 1}
        if not held:
            continue
        counts = Counter(piece for own in pieces.values() for piece in set(own))
        joined = [
            text
            for text, own in held.items()
            if any(p in pieces for p in own) or all(counts[p] > 1 for p in own)
        ]
        text = printable(next(iter(joined or held)))
        choose = f'--set "table.separator={other}"'
        if 2 * len(joined) >= len(held):
            raise DataError(
                f"{where}: several labels seem to be joined by {other!r}, not by {separator!r}. "
                f"Allowed: {choose}, or, where such a text is one label, "
                f'--set "table.separator={separator}". Received: {text!r}'
            )
        notes.append(
            f"labels with {other!r} in them, such as {text!r}, are one label each "
            f"({len(held):,} of {len(texts):,}); if not, {choose}"
        )
    return notes[:1]
