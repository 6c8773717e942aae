"""Batches of another size than asked for: what spec, state and `batches.json` of a run say then."""

from __future__ import annotations

from typing import Any

from tlkit.planning.phases import TrainPlan
from tlkit.progress import Progress
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.state import read_state
from tlkit.spec.read import make_spec
from tlkit.spec.run import RunSpec

BATCHES = "batches.json"


def read_batches(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the rows of `batches.json`; none if there is no such file."""
    return folder.read_json(BATCHES) if (folder.path / BATCHES).exists() else []


def note_batch(
    folder: RunFolder, phase: str, epoch: int, size: int, rate: float | None, why: str
) -> None:
    """Note in `batches.json` that from an epoch on batches have another size."""
    row = {"phase": phase, "epoch": epoch, "batch_size": size, "learning_rate": rate}
    record.note(folder, BATCHES, [*read_batches(folder), {**row, "reason": why}])


def with_batch(spec: RunSpec, size: int | None) -> RunSpec:
    """Return the spec of a run that goes on with batches of `size`; None: of those that it has.

    Raises:
        SpecError: `size` is no number of images.
    """
    if size is None:
        return spec
    return make_spec({**spec.model_dump(), "batch_size": size}, "--resume")


def change_batch(
    folder: RunFolder, spec: RunSpec, size: int, plan: TrainPlan | None, progress: Progress
) -> None:
    """Let a stopped run go on with batches of `size`: all is read before the first is written.

    Spec, state and batches.json in the folder say so: the run stays explainable.

    Args:
        spec: the run's own, without the change.
        plan: the run's, with the rates of the new batches; None: it has not started.

    Raises:
        RunFolderError: a file of the folder is damaged; it is left as it was.
    """
    new, state = with_batch(spec, size), read_state(folder)
    before = state.batch_size or spec.batch_size
    if size == before:
        return
    text = f"{size} images a step instead of {before}, from epoch {state.epoch + 1} on"
    row = None
    if plan is not None:
        phase = plan.phases[min(len(state.finished), len(plan.phases) - 1)]
        text = f"{phase.name}: {text}"
        rate = phase.learning_rate if phase.method == "fit" else None
        row = (phase.name, state.epoch + 1, size, rate, "asked for at --resume")
        read_batches(folder)
    if state.optimizer and state.fitted is None:  # written by a version that counted no batches
        state.fitted = {"batch_size": before, "learning_rate": None}
    state.batch_size = size
    if folder.state.is_file():
        state.write(folder)
    folder.write_text("spec.yaml", new.to_yaml())
    if row:
        note_batch(folder, *row)
    progress.say("resume", f"{text}: not the numbers of a run that was never stopped")
