"""A run for somebody else: one zip file, and the columns of its log."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlkit.atomic import file_draft
from tlkit.errors import RunFolderError
from tlkit.runfolder import record
from tlkit.runfolder.folder import RunFolder

LEFT = ("checkpoints", "tensorboard", "export")
"""Folders of a run that are not packed: what training goes on from, and what can be made anew."""


def pack(folder: RunFolder, out: str | Path | None = None) -> Path:
    """Write a zip file of a finished run; it holds one folder, which `open_run` takes.

    Args:
        out: a new file; None: `NAME.zip` beside the folder.

    Raises:
        RunFolderError: the run is unfinished or not as it was written, or `out` is there or cannot
            be written.
    """
    root = folder.path.resolve()
    target = Path(out) if out is not None else root.with_name(f"{root.name}.zip")
    if not folder.finished:
        raise RunFolderError(
            f"run {folder.path}: is unfinished, and is packed without its checkpoints. Allowed: a "
            f"finished run; this one goes on with: tlkit train --resume {folder.path}"
        )
    if target.exists():
        raise RunFolderError(f"--out {target}: is there already. Allowed: a new file")
    record.check_files(folder)
    record.check_model(folder)
    files = [p for p in sorted(root.rglob("*")) if p.relative_to(root).parts[0] not in LEFT]
    try:
        with file_draft(target) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as into:
            for path in files:
                if path.is_file():
                    into.write(path, Path(root.name, path.relative_to(root)))
    except (OSError, ValueError) as error:  # the latter: a time before 1980
        raise RunFolderError(f"--out {target}: cannot be written: {error}") from error
    return target


def columns(rows: Sequence[dict[str, str]]) -> dict[str, list[Any]]:
    """Return the rows of a log as columns: text for `phase`, else numbers, None where empty."""
    names = rows[0] if rows else ()
    return {name: [_value(name, row[name]) for row in rows] for name in names}


def _value(name: str, text: str) -> Any:
    if name == "phase":
        return text
    if not text:
        return None
    return int(text) if name == "epoch" else float(text)
