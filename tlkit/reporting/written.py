"""The files of an evaluation: metrics.json, predictions.csv and a drawing in a folder, or a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.atomic import write_file
from tlkit.data.example import Example
from tlkit.errors import DataError
from tlkit.places import check_csv, check_free
from tlkit.progress import Progress
from tlkit.reporting.figures import draw_metrics, predictions_csv
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.task import Task


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
    task: Task,
    metrics: dict[str, Any],
    examples: Sequence[Example],
    targets: np.ndarray,
    answers: np.ndarray,
    out: str | Path | None,
    csv: str | Path | None,
    progress: Progress,
) -> None:
    """Write what `Run.evaluate` measured where `check_targets` was asked for.

    Args:
        metrics: of the whole, as `metrics.json` holds them.
        examples, targets, answers: in one order; targets as `task` encodes them, answers (n,
            outputs).

    Raises:
        DataError: a file cannot be written.
    """
    if out is None and csv is None:
        return
    rows = predictions_csv(task, [e.id for e in examples], [e.label for e in examples], answers)
    try:
        if csv is not None:
            write_file(Path(csv), rows.encode("utf-8"))
        if out is not None:
            folder = RunFolder(out)
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.write_json("metrics.json", metrics)
            folder.write_text("predictions.csv", rows)
            note = draw_metrics(task, metrics, targets, answers, folder.path)
            if note:
                progress.say("note", note)
    except OSError as error:
        where = error.filename or out or csv
        raise DataError(f"{where}: cannot be written: {error.strerror}") from error
