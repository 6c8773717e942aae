"""Several labels in one cell: whether they are joined by something else than what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tlkit.errors import DataError, printable

OTHERS = (",", ";", " ")
"""What joins labels in other people's tables."""


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
