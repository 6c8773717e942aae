"""Finished runs side by side, on the images that all of them were tested on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlkit.atomic import folder_draft
from tlkit.errors import DataError, RunFolderError, SpecError
from tlkit.places import check_free
from tlkit.progress import Progress, as_progress
from tlkit.reporting.paired import Pair, mean_of, paired
from tlkit.reporting.report import read_answers
from tlkit.run import Run, open_run
from tlkit.runfolder import record
from tlkit.runfolder.folder import as_json
from tlkit.tasks.shown import Answers

Key = tuple[str, int]
"""Content of an image, and which of those with the same content it is."""


@dataclass(frozen=True)
class RunsCompared:
    """Runs on the same images.

    Attributes:
        runs: their folders.
        score: what the mean over images is called, see `Task.image_scores`.
        images: how many all runs were tested on.
        values: of each run the mean and its 95% interval, see `mean_of`.
        pairs: of all runs, two and two.
        notes: what a person must know before the figures are believed.
        facts: of each run, what stands beside the mean: backbone, regime, seconds.
        logs: of each run the rows of log.csv.
    """

    runs: Sequence[str]
    score: str
    images: int
    values: Sequence[tuple[float, tuple[float, float] | None]]
    pairs: Sequence[Pair]
    notes: Sequence[str]
    facts: Sequence[dict[str, Any]]
    logs: Sequence[Sequence[dict[str, str]]]

    def to_json(self) -> dict[str, Any]:
        """Return `compare_runs.json`."""
        runs = zip(self.runs, self.values, self.facts, strict=True)
        return {
            "score": self.score,
            "images": self.images,
            "notes": list(self.notes),
            "runs": [
                {"run": run, **facts, "value": value, "interval95": interval and list(interval)}
                for run, (value, interval), facts in runs
            ],
            "pairs": [
                {
                    "runs": [self.runs[pair.first], self.runs[pair.second]],
                    "difference": pair.difference,
                    "interval95": pair.interval and list(pair.interval),
                    "only_first_right": pair.only_first,
                    "only_second_right": pair.only_second,
                    "p": pair.p,
                    "p_holm": pair.adjusted,
                    "told_apart": pair.told_apart,
                }
                for pair in self.pairs
            ],
        }


def compare_runs(
    runs: Sequence[str | Path | Run],
    *,
    out: str | Path | None = None,
    progress: bool | Progress = True,
) -> RunsCompared:
    """Compare finished runs on the images that are in the test parts of all of them.

    Images are the same by their content, whatever they are called. What a run was trained on or
    chosen by is in no test part of its own, so no run is measured on images it knows.

    Args:
        runs: two or more folders of runs of one task, with the same labels.
        out: a new or empty folder for `compare_runs.json` and `compare_runs.html`, with curves.

    Raises:
        SpecError: fewer than two, one twice, or other tasks or labels.
        RunFolderError: a run is unfinished, has no test part, or files of it are not its own.
        DataError: no image is in all test parts, one has another label in another run, or `out`
            cannot be written.

    Example:
        tlkit.compare_runs(["runs/first", "runs/second"])
    """
    if out is not None:
        check_free(Path(out))
    shown = as_progress(progress)
    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    _check(opened)
    answers, notes = _same_images([(run, *_answers(run)) for run in opened])
    scores = [run.task.image_scores(own) for run, own in zip(opened, answers, strict=True)]
    found = RunsCompared(
        [str(run.folder) for run in opened],
        opened[0].task.paired,
        len(scores[0]),
        [mean_of(own) for own in scores],
        paired(scores),
        notes,
        [_facts(run) for run in opened],
        [run.files.read_log() for run in opened],
    )
    for note in notes:
        shown.say("note", note)
    if out is not None:
        _write(found, Path(out))
    return found


def _check(runs: Sequence[Run]) -> None:
    folders = Counter(run.folder.resolve() for run in runs)
    if len(runs) < 2 or len(folders) < len(runs):
        raise SpecError(
            "compare-runs: needs two or more different runs. Received: "
            + ", ".join(str(run.folder) for run in runs)
        )
    for run in runs:
        if not run.finished:
            raise RunFolderError(
                f"run {run.folder}: is unfinished. Go on with: tlkit train --resume {run.folder}"
            )
        record.check_files(run.files)
        if not run.metrics["test"]:
            raise RunFolderError(f"run {run.folder}: has no test part to be compared on")
        if not run.task.paired:
            raise SpecError(
                f"run {run.folder}: the task {run.spec.task} gives no score of single images to "
                "compare by"
            )
    first = runs[0]
    for run in runs[1:]:
        if (run.spec.task, set(run.labels)) != (first.spec.task, set(first.labels)):
            raise SpecError(
                f"compare-runs: {run.folder} answers another question than {first.folder}: "
                f"{run.spec.task} of {', '.join(run.labels)}; {first.spec.task} of "
                f"{', '.join(first.labels)}"
            )


def _answers(run: Run) -> tuple[Answers, dict[Key, int]]:
    """Return the answers to a run's test part, and the place of each image in them."""
    answers = read_answers(run.files, run.task)
    if answers is None:
        raise RunFolderError(
            f"run {run.folder}: was made by an earlier version, which kept no hashes: its images "
            "cannot be found in other runs. Train anew"
        )
    found, seen = {}, Counter()
    for i, (_, digest, _) in enumerate(run.members["test"]):
        found[digest, seen[digest]] = i
        seen[digest] += 1
    return answers, found


def _same_images(
    tested: Sequence[tuple[Run, Answers, dict[Key, int]]],
) -> tuple[list[Answers], list[str]]:
    """Return the answers of each run to the images that all were tested on, in one order."""
    common = [key for key in tested[0][2] if all(key in places for *_, places in tested)]
    if not common:
        raise DataError("compare-runs: no image is in the test parts of all of these runs")
    found, notes = [], []
    for run, answers, places in tested:
        own = [places[key] for key in common]
        labels = [answers.labels[i] for i in own]
        ids, given = [answers.ids[i] for i in own], [answers.predictions[i] for i in own]
        found.append(Answers(ids, labels, given, answers.outputs[own]))
        if left := len(places) - len(common):
            notes.append(
                f"{run.folder}: {left:,} of {len(places):,} test images are not in all test parts "
                "and left out"
            )
    _check_labels([run for run, *_ in tested], found)
    return found, notes


def _check_labels(runs: Sequence[Run], answers: Sequence[Answers]) -> None:
    first = answers[0]
    for run, other in zip(runs[1:], answers[1:], strict=True):
        for id_, label, own in zip(first.ids, first.labels, other.labels, strict=True):
            if _plain(label) != _plain(own):
                raise DataError(
                    f"compare-runs: {id_} has the label {label!r} in {runs[0].folder} and {own!r} "
                    f"in {run.folder}"
                )


def _plain(label: Any) -> Any:
    """Return a label whose parts stand in no order, where they have none."""
    named = isinstance(label, tuple) and all(isinstance(own, str) for own in label)
    return frozenset(label) if named else label


def _facts(run: Run) -> dict[str, Any]:
    metrics = run.metrics
    return {
        "backbone": metrics["backbone"],
        "regime": metrics["regime"],
        "test_images": metrics["test"]["examples"],
        "seconds": metrics["seconds"]["total"],
    }


def _write(found: RunsCompared, out: Path) -> None:
    from tlkit.reporting.runs_page import render_runs  # jinja2 takes a moment to import

    content = found.to_json()
    try:
        with folder_draft(out) as draft:
            (draft / "compare_runs.json").write_text(as_json(content), "utf-8")
            page = render_runs(content, found.logs)
            (draft / "compare_runs.html").write_text(page, "utf-8")
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written: {error.strerror}") from error
