"""A run's report from the files in its folder, and written there."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.data.csv_cells import csv_cell
from tlkit.data.example import Example
from tlkit.reporting.label_audit import Audited, audit_gallery
from tlkit.reporting.paired import ends, mean_of
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.shown import Answers, Figure, Table
from tlkit.tasks.task import Task

NAME = "report.html"
"""The report's file in a run folder."""


def write_report(
    folder: RunFolder,
    task: Task,
    images: Any,
    notes: Sequence[str] = (),
    audited: Sequence[Audited] | None = None,
) -> Path:
    """Write `report.html` of a finished run; one that is there is replaced.

    Args:
        task: of the run, with what it learnt of the data.
        images: `html.Images`, where the images of the test part are found.
        notes: what a person must know before the rest is believed.
        audited: of a label audit, if there was one.

    Raises:
        RunFolderError: a file of the run is missing or damaged, or the report cannot be written.
    """
    from tlkit.reporting.html import render  # jinja2 takes a moment to import

    metrics = folder.read_json("metrics.json")
    notes, answers, figures, parts = list(notes), None, [], []
    if metrics["test"]:
        answers = read_answers(folder, task) if task.row_an_image else None
        if task.row_an_image and answers is None:
            notes.append(
                "The run was made by an earlier version, which kept no labels: images, confusion "
                "matrix and calibration are not shown."
            )
        figures = task.figures(metrics["test"], answers)
        parts = task.parts(metrics["test"], answers)
        if answers is not None:
            parts += _by_group(task, answers, images.examples)
    else:
        figures = [Figure(name, value) for name, value in metrics["val"].items()]
    facts = {
        "metrics": metrics,
        "plan": folder.read_json("plan.json"),
        "scan": folder.read_json("scan.json"),
        "environment": folder.read_json("env.json"),
        "log": folder.read_log(),
        "figures": figures,
        "parts": parts,
        "audit": [audit_gallery(audited)] if audited is not None else [],
        "notes": notes,
    }
    folder.write_text(NAME, render(folder, facts, images))
    return folder.path / NAME


def _by_group(task: Task, answers: Answers, examples: Mapping[str, Example]) -> list[Table]:
    """Return the task's score in each group of images, the lowest first; of no groups nothing."""
    scores = task.image_scores(answers)
    groups = [examples[id_].group if id_ in examples else None for id_ in answers.ids]
    if scores is None or not any(groups):
        return []
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        if group:
            members.setdefault(group, []).append(i)
    found = sorted((*mean_of(scores[own]), name, len(own)) for name, own in members.items())
    rows = [(name, n, mean, ends(interval)) for mean, interval, name, n in found]
    return [Table("By group", ("group", "images", task.paired, "95%"), rows)]


def read_answers(folder: RunFolder, task: Task) -> Answers | None:
    """Return `predictions.csv` with ids and labels as they were listed; None: they are not known.

    Args:
        task: one with a `row_an_image`.

    Raises:
        RunFolderError: it is damaged, or not of the run's test part.
    """
    if not (folder.path / "data.json").exists():
        return None
    members = folder.read_json("data.json")["test"]
    ids = [id_ for id_, *_ in members]
    found, predictions, outputs = [], [], []
    try:
        with (folder.path / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            width = len(next(rows))
            for id_, *row in rows:  # numbers at once: text of thousands of classes is large
                if len(row) != width - 1:
                    raise ValueError("a row has not as many values as there are columns")
                found.append(id_)
                predictions.append(row[1])
                outputs.append(task.outputs_in(row))
    except (OSError, ValueError, StopIteration, csv.Error) as error:
        raise folder.damaged("predictions.csv", error) from error
    if found != [csv_cell(id_) for id_ in ids]:
        raise folder.damaged("predictions.csv", "its rows are not those of the test part")
    labels = [tuple(x) if isinstance(x, list) else x for *_, x in members]
    return Answers(ids, labels, predictions, np.stack(outputs))
