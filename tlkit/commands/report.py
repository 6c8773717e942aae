"""The report of a run: at its end, and of any past one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tlkit.commands.host import as_guest
from tlkit.data.example import Example
from tlkit.data.feed.dataset import Prepared, open_spec
from tlkit.data.pictures.decode import traced_decode_and_resize
from tlkit.data.pictures.rendering import rendering_of
from tlkit.errors import RunFolderError, TlkitError
from tlkit.progress import Progress, as_progress
from tlkit.reporting.label_audit import NAME as AUDIT
from tlkit.reporting.label_audit import read_audit, write_audit
from tlkit.reporting.report import write_report
from tlkit.reporting.saliency import overlay, saliency
from tlkit.run import Run, open_run
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder
from tlkit.spec.run import ARRAYS, RunSpec
from tlkit.tasks.task import Task

if TYPE_CHECKING:
    from tlkit.reporting.html import Images

BATCH = 32
"""Images that are explained at a time."""


def report_at_end(prepared: Prepared, task: Task, folder: RunFolder, progress: Progress) -> None:
    """Write the report of a run that has just ended; if it cannot be, that is said."""
    digests = {e.id: prepared.scan.digests.get(e.id, "") for e in prepared.split.test}
    try:
        write_report(folder, task, _images(prepared.spec, prepared.split.test, digests))
    except (TlkitError, OSError) as error:
        progress.say("note", f"report.html was not written: {error}")


def _images(spec: RunSpec, examples: Iterable[Example], digests: dict[str, str]):
    from tlkit.reporting.html import Images  # jinja2 takes a moment to import

    return Images({e.id: e for e in examples}, digests, rendering_of(spec))


@as_guest()
def report(
    run: str | Path | Run,
    *,
    audit: bool = False,
    maps: bool = False,
    progress: bool | Progress = True,
) -> Path:
    """Write `report.html` into the folder of a finished run, and return its path.

    One file with all that a person looks at: figures with intervals, confusion matrix, images of
    mistakes, curves, data, environment. It opens without a network.

    Args:
        run: a run folder, or a run. Its images are shown as far as they are where they were, with
            the content that they had; for others the report says that they are missing.
        audit: hold each label against heads that are solved without its image, in five folds;
            the list is `label_audit.csv`, and the report, later ones too, shows its first.
        maps: beside the images of mistakes show where their answers come from, see `explain`.

    Raises:
        RunFolderError: there is no run, it is unfinished, or files of it are not its own.
        TlkitError: see `audit` and `saliency`.

    Example:
        tlkit.report("runs/first")
    """
    shown = as_progress(progress)
    opened = run if isinstance(run, Run) else open_run(run)
    if not opened.finished:
        raise RunFolderError(
            f"run {opened.folder}: is unfinished, and a report is of a finished run. Go on with: "
            f"tlkit train --resume {opened.folder}"
        )
    record.check_files(opened.files)
    opened.say_state(shown)
    if audit:
        from tlkit.commands.audit import audit as audited

        rows = audited(opened, shown)
        found = sum(row.contradicted for row in rows)
        path = write_audit(opened.files, rows)
        shown.say("audit", f"{found:,} of {len(rows):,} labels are contradicted: {path}")
    examples, notes = _found(opened.spec)
    members = opened.members or {}
    digests = {id_: digest for own in members.values() for id_, digest, _ in own}
    images = _images(opened.spec, examples, digests)
    if maps:
        images.maps = _Maps(opened, images)
    rows = read_audit(opened.files, members)
    if rows is None and (opened.folder / AUDIT).exists():
        notes.append(f"{AUDIT} is damaged or of another run, and not shown.")
    path = write_report(opened.files, opened.task, images, notes, rows)
    for note in notes:
        shown.say("note", note)
    shown.say("report", str(path))
    return path


class _Maps:
    """Makes maps of images that can be found, those of their answers, as small as they are shown.

    Raises:
        RunFolderError: see `saliency`.
    """

    def __init__(self, run: Run, images: Images):
        self._run, self._images = run, images
        self._saliency = saliency(run.answering())
        self._resize = traced_decode_and_resize(run.spec.size, run.rendering)

    def __call__(self, ids: Sequence[str]) -> dict[str, Image.Image]:
        """Return an overlay of each image that can be found, by id."""
        shown = [(id_, self._images.small(id_)) for id_ in ids]
        known = [(id_, image) for id_, image in shown if image is not None]
        found = {}
        for start in range(0, len(known), BATCH):
            own = known[start : start + BATCH]
            contents = [self._images.examples[id_].read() for id_, _ in own]
            pixels = np.stack([self._resize(content).numpy() for content in contents])
            features, outputs = self._saliency.answer(pixels)
            chosen = np.array([self._run.task.explained(row) or 0 for row in outputs])
            heats = self._saliency.maps(features, chosen)
            seen = self._run.spec.size, self._run.rendering.fit
            for (id_, image), heat in zip(own, heats, strict=True):
                found[id_] = overlay(np.asarray(image), heat, *seen)
        return found


def _found(spec: RunSpec) -> tuple[list[Example], list[str]]:
    """Return the examples of a run's data that are still there; what to say if there are none."""
    if ARRAYS in (spec.data, spec.val, spec.test):
        return [], ["The run was trained on arrays, which are gone: no images are shown."]
    try:
        source = open_spec(spec, {})
    except TlkitError as error:
        return [], [f"No images are shown: {error}."]
    return [example for part in source.parts.values() for example in part], []
