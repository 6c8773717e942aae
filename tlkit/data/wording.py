"""Names and counts in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5
"""Names in a sentence; the others are counted."""


def few(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are.

    >>> few(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d, e and 1 more'
    """
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def number(count: int, word: str) -> str:
    """Return a count with its word, in the plural where it is not 1.

    >>> number(1, "class"), number(1200, "class")
    ('1 class', '1,200 classes')
    """
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count:,} {word if count == 1 else plural}"
