"""The files of an evaluation: metrics.json, predictions.csv and a drawing in a folder, or a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlkit.atomic import write_file
from tlkit.errors import DataError
from tlkit.places import check_csv, check_free
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.evaluator import Evaluator


def check_targets(out: str | Path | None, csv: str | Path | None, run: Path, data: object) -> None:
    """Check that an evaluation can be written, before anything is computed.

    Args:
        out: a new or empty folder for all of it, or None.
        csv: a file for the predictions alone, replaced if it is there, or None.
        run, data: the folder of the run, and what it is evaluated on.

    Raises:
        RunFolderError: `out` holds something, or cannot be a folder.
        SpecError: `csv` is a folder, in none, or a file of the run or `data`.
    """
    if out is not None:
        check_free(Path(out))
    if csv is not None:
        check_csv(Path(csv), run, data)


def write_evaluation(
    found: Evaluator,
    metrics: dict[str, Any],
    out: str | Path | None,
    table: str | Path | None,
    progress: Progress,
) -> None:
    """Write what `Run.evaluate` measured where `check_targets` was asked for.

    Args:
        found: has taken all examples.
        metrics: of the whole, as `metrics.json` holds them.
        out, table: a folder for all, a file for the predictions.

    Raises:
        DataError: a file cannot be written.
    """
    if out is None and table is None:
        return
    rows = as_csv(found.rows())
    try:
        if table is not None:
            write_file(Path(table), rows.encode("utf-8"))
        if out is not None:
            folder = RunFolder(out)
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_json("metrics.json", metrics)
            folder.write_text("predictions.csv", rows)
            if note := found.draw(folder.path):
                progress.say("note", note)
    except OSError as error:
        where = error.filename or out or table
        raise DataError(f"{where}: cannot be written: {error.strerror}") from error


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """Return the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
