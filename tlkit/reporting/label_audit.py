"""Labels that answers out of sample contradict: a list to look at, in `label_audit.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tlkit.data.csv_cells import csv_cell
from tlkit.data.membership import Members
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.shown import Gallery, Tile

NAME = "label_audit.csv"

COLUMNS = ("id", "part", "label", "suggestion", "quality")

FEATURED = 48
"""Images in the report; the file has all."""


class Audited(NamedTuple):
    """One image: its label, what heads say that were solved without it, and their agreement.

    Attributes:
        quality: 0 to 1, see `LinearTask.label_quality`.
    """

    id: str
    part: str
    label: str
    suggestion: str
    quality: float

    @property
    def contradicted(self) -> bool:
        return self.label != self.suggestion


def label_text(label: object) -> str:
    """Return a label as it stands in the list: several joined by `|`, numbers with six digits."""
    if isinstance(label, str):
        return label
    return "|".join(f"{x:.6g}" if isinstance(x, int | float) else str(x) for x in label)


def write_audit(folder: RunFolder, rows: Sequence[Audited]) -> Path:
    """Write the list into a run folder, the least plausible label first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (csv_cell(x) for x in row[:-1])
        writer.writerow([*cells, f"{row.quality:.6f}"])
    folder.write_text(NAME, text.getvalue())
    return folder.path / NAME


def read_audit(folder: RunFolder, members: Members) -> list[Audited] | None:
    """Return the list that an earlier audit wrote; None: there is none of this run's images."""
    try:
        text = (folder.path / NAME).read_text("utf-8")
        head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        ids = {csv_cell(id_): id_ for own in members.values() for id_, *_ in own}
        rows = [Audited(ids[i], part, own, said, float(q)) for i, part, own, said, q in lines]
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    return rows if tuple(head) == COLUMNS else None


def audit_gallery(rows: Sequence[Audited]) -> Gallery:
    """Return the first of the list with their images, as a part of the report."""
    found = [row for row in rows if row.contradicted]
    tiles = [
        Tile(r.id, f"labelled {r.label or 'nothing'}; {r.suggestion or 'nothing'}? ({r.part})")
        for r in found[:FEATURED]
    ]
    shown = f"; the first {FEATURED} are shown" if len(found) > FEATURED else ""
    note = (
        f"Heads that were solved without an image contradict {len(found):,} of {len(rows):,} "
        f"labels, the least plausible first{shown}; {NAME} lists all. Look at them: about half "
        "of such labels are right (Northcutt et al. 2021). Nothing was changed or removed."
    )
    return Gallery("Labels to look at", tiles, note)
