"""How a run ends before its end (stopped, out of disk, failed at its start), and may go on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlkit.backbones.catalog import MODEL
from tlkit.compute.memory import is_out_of_memory
from tlkit.data.example import Source
from tlkit.data.feed.dataset import Prepared
from tlkit.data.membership import changes
from tlkit.errors import (
    FULL,
    CacheError,
    DiskFullError,
    Interrupted,
    OutOfMemoryError,
    RunFolderError,
    SpecError,
    TlkitError,
)
from tlkit.run import Run
from tlkit.runfolder.folder import RunFolder, next_folder
from tlkit.runfolder.state import read_state
from tlkit.spec.run import ARRAYS, RunSpec

MEMORY = (
    "out of memory. Try a smaller --batch-size (a run that has begun: tlkit train --resume RUN "
    "--batch-size N), a smaller --image-size or backbone, or on a GPU --precision bfloat16"
)
"""What to type where memory runs out in no phase's steps."""

CATALOGUED = ("imagenet", "none")
"""Weights that are no file of the user's."""


class Start:
    """The folder of a run that is about to start; made once its data is listed."""

    def __init__(self) -> None:
        self.files: RunFolder | None = None
        self._made: list[Path] = []

    def create(self, spec: RunSpec, source: Source) -> None:
        """Make the folder, so that from here on there is a run to go on with."""
        files = RunFolder(spec.out or next_folder(source.name, spec.backbone.label))
        path = files.path
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        with disk_full_told(None, path):
            files.create(spec)
        self.files, self._made = files, made

    def remove(self) -> None:
        """Remove what `create` made: nothing is left of a start that failed."""
        if self.files is None:
            return
        for path in self.files.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self._made:
            with contextlib.suppress(OSError):  # another run is in it by now
                path.rmdir()


@contextlib.contextmanager
def starting(start: Start, arrays: dict[str, Any]) -> Iterator[None]:
    """Start a run; of a start that fails nothing is left, one that is stopped can go on.

    Args:
        arrays: data or a model that only this process has; without it there is no going on.

    Raises:
        KeyboardInterrupt: it was stopped; if there is a folder still, it can go on.
    """
    try:
        with disk_full_told(lambda: start.files):
            yield
    except KeyboardInterrupt:
        if arrays:
            start.remove()
        raise
    except DiskFullError:
        raise
    except TlkitError:
        start.remove()
        raise


def check_idle(run: Run, batch_size: int | None) -> None:
    """Refuse what a finished run was asked to change: nothing of it is trained any more.

    Raises:
        SpecError: something was.
    """
    if batch_size is not None:
        raise SpecError(
            f"--resume {run.folder}: the run is finished, --batch-size has no effect. Allowed: "
            f"left out, or to train anew: tlkit train --recipe {run.folder}/spec.yaml --out NEW "
            f"--batch-size {batch_size}. Received: {batch_size}"
        )


def check_given(run: Run) -> None:
    """Refuse to go on with what only the process that began the run had.

    Raises:
        RunFolderError: it was trained on arrays or on a model object.
    """
    if ARRAYS in (run.spec.data, run.spec.val, run.spec.test):
        raise RunFolderError(f"run {run.folder}: was trained on arrays, which are gone; train anew")
    if run.spec.backbone.name == MODEL:
        raise RunFolderError(
            f"run {run.folder}: was trained on a model object, which is gone; train anew, or save "
            "the model and name its file: --backbone path/to/model.keras"
        )


def check_unchanged(prepared: Prepared, run: Run, since: str = "it was stopped") -> None:
    """Refuse to go on with other images: some trained on already could come into the test.

    Args:
        since: the moment that they are held against.

    Raises:
        RunFolderError: they have changed.
    """
    before = run.members
    if before is None:  # of an earlier version
        ids = run.files.read_json("scan.json")["splits"]
        found = [] if prepared.split.ids() == ids else ["ids or their parts"]
    else:
        found = changes(before, prepared.members())
    if prepared.source.outputs != run.labels:
        found.append(
            f"the labels: {', '.join(run.labels)}; now {', '.join(prepared.source.outputs)}"
        )
    if found:
        raise RunFolderError(
            f"run {run.folder}: the images in {run.spec.data} have changed since {since}: "
            f"{'; '.join(found)}. Put them back, or train anew"
        )


def check_weights(weights: str, run: Run) -> None:
    """Refuse to go on from another file of weights than the run began with.

    A run whose state has the weights of its best model goes on from these, whatever the file holds
    by now; a model of one's own may have other layers.

    Args:
        weights: hash of those of the model as it is before training.
    """
    backbone = run.spec.backbone
    if not backbone.given and (
        backbone.weights in CATALOGUED or read_state(run.files).best is not None
    ):
        return
    before = run.files.read_json("env.json").get("weights", weights)
    if weights != before:
        where = backbone.name if backbone.given else f"weights={backbone.weights}"
        raise RunFolderError(
            f"run {run.folder}: the weights of the backbone ({where}) are no longer those that it "
            "was started with. Put them back, or train anew"
        )


def interrupted(folder: RunFolder) -> Interrupted:
    """Return the error that says how to go on."""
    kept = f"the best model so far is kept in {folder.best}. " if folder.best.is_file() else ""
    return Interrupted(f"interrupted; {kept}Go on with: tlkit train --resume {folder.path}")


@contextlib.contextmanager
def disk_full_told(folder: Any, path: Path | None = None) -> Iterator[None]:
    """Turn whatever is raised because a disk or memory is full into one clear message.

    Keras and h5py raise errors of their own over the system's; the chain of causes is searched.

    Args:
        folder: the run folder, or a function that returns it; None: the run has not begun.
        path: where was written, if there is no folder.

    Raises:
        DiskFullError: the disk is full.
        OutOfMemoryError: memory is.
    """
    try:
        yield
    except CacheError as error:
        if folder is None or _full(error) is None:
            raise
        files = folder() if callable(folder) else folder
        again = f"{error}, then go on with: tlkit train --resume {files.path}"
        raise DiskFullError(again) from error
    except TlkitError:
        raise
    except Exception as error:
        reason = _full(error)
        files = folder() if callable(folder) else folder
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"run {files.path if files else path}: {MEMORY}") from error
        if reason is None:
            raise
        place = files.path if files else path
        if place is None:
            raise
        there = next(p for p in (place, *place.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**20
        again = f", then go on with: tlkit train --resume {place}" if files else ""
        raise DiskFullError(
            f"run {place}: cannot be written: {reason} ({free:,.0f} MB free there). "
            f"Free some space or raise the quota{again}"
        ) from error


def _full(error: BaseException | None) -> str | None:
    """Return why a disk takes no more, if that is behind `error`."""
    while error is not None:
        for code in FULL:
            said = isinstance(error, OSError) and error.errno == code
            if said or f"errno = {code}," in str(error) or os.strerror(code) in str(error):
                return os.strerror(code)
        error = error.__cause__ or error.__context__
    return None
