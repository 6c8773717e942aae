"""What a run has written, by its hashes: a file that was replaced is not taken for the run's own.

`digests.json` is written when a run starts and once more when it ends, each time before the last of
the files that it speaks of: a killed run never has a file that is missing there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tlkit.errors import RunFolderError
from tlkit.runfolder.contents import REMEDIES
from tlkit.runfolder.folder import RunFolder, as_json
from tlkit.runfolder.state import State, read_state
from tlkit.spec.renamed import renamed
from tlkit.spec.run import RunSpec

RECORD = "digests.json"

AT_END = (
    "spec.yaml",
    "engine.json",
    "batches.json",
    "log.csv",
    "predictions.csv",
    "model.keras",
)
"""Files of a finished run besides those of its start, and task.json and metrics.json, the last."""

BETWEEN = ("engine.json", "batches.json")
"""Files that are written after the start, and read or added to when a run goes on. It can do
without them."""

AT_START = ("plan.json", "env.json", "labels.json", "scan.json")
"""Files of the start of a run of an earlier version, which had no record when it was stopped."""

DISPENSABLE = ("metrics.json", "engine.json", "batches.json", "log.csv")
"""Files that a run can go on without; `REMEDIES` says how."""

FREE = (
    "data",
    "val",
    "test",
    "init",
    "out",
    "epochs",
    "optimizer",
    "device",
    "cache_size",
    "batch_size",
)
"""Fields of spec.yaml that may change before an unfinished run goes on. Data may have moved: what
is in it is held against data.json; `--resume` writes another batch size."""


@dataclass(frozen=True)
class Record:
    """The content of `digests.json`.

    Attributes:
        run: a number drawn for this run, which its state carries too.
        start: `file_digest` of the files of the start, by name.
        files: of all files of the finished run; before, of those of `BETWEEN` that are there.
        spec: the run's spec as it started.
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    start: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


def file_digest(path: Path) -> str:
    """Return hash (BLAKE2b, 16 bytes) and size of a file's content."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        return f"{found.hexdigest()} {file.tell()}"


def is_one_of(path: Path, digests: Iterable[str]) -> bool:
    """Tell whether a file has the content of which `file_digest` was one of `digests`.

    By its size first: a file without end, such as a sparse one of terabytes, is not read.
    """
    known = {digest: digest.rpartition(" ")[2] for digest in digests}
    return str(path.stat().st_size) in known.values() and file_digest(path) in known


def _text_digest(text: str) -> str:
    content = text.encode("utf-8")
    return f"{hashlib.blake2b(content, digest_size=16).hexdigest()} {len(content)}"


def read_record(folder: RunFolder) -> Record | None:
    """Return the record of a run; None for one that was made before there were any, or not started.

    Raises:
        RunFolderError: it is damaged, or missing in a run that started with one.
    """
    if not (folder.path / RECORD).exists():
        # Runs have had both since the same version; the record is written before scan.json.
        if all(os.path.lexists(folder.path / name) for name in ("data.json", "scan.json")):
            raise folder.damaged(RECORD, os.strerror(errno.ENOENT))
        return None
    found = folder.read_json(RECORD)
    return Record(**{each.name: found[each.name] for each in fields(Record)})


def _write(folder: RunFolder, record: Record) -> None:
    # In ASCII: a path in the spec may hold bytes that are not UTF-8.
    folder.write_text(RECORD, json.dumps(asdict(record), indent=2) + "\n")


def start(folder: RunFolder, spec: RunSpec, texts: Mapping[str, str]) -> None:
    """Write the files of a run's start, in order, the record before the last of them."""
    record = Record(
        start={name: _text_digest(text) for name, text in texts.items()},
        spec=spec.model_dump(mode="json"),
    )
    *first, last = texts
    for name in first:
        folder.write_text(name, texts[name])
    _write(folder, record)
    folder.write_text(last, texts[last])


def seal(folder: RunFolder, texts: Mapping[str, str]) -> None:
    """Write the last files of a run, in order, and before them the record of all that is there."""
    record = read_record(folder) or Record()
    names = AT_END if record.start else (*AT_END, *AT_START)
    there = [name for name in names if (folder.path / name).is_file()]
    files = {name: file_digest(folder.path / name) for name in there}
    # Of what the start wrote that alone counts, whatever lies there now.
    files |= {name: digest for name, digest in record.start.items() if name != "spec.yaml"}
    files |= {name: _text_digest(text) for name, text in texts.items()}
    _write(folder, replace(record, files=files))
    for name, text in texts.items():
        folder.write_text(name, text)


def note(folder: RunFolder, name: str, value: Any) -> None:
    """Write a JSON file that comes between start and end, and before it what the record says of it.

    A run that is killed between the two has no such file.
    """
    text, record = as_json(value), read_record(folder)
    (folder.path / name).unlink(missing_ok=True)
    if record:
        _write(folder, replace(record, files=record.files | {name: _text_digest(text)}))
    folder.write_text(name, text)


def check_files(folder: RunFolder, *names: str) -> None:
    """Check that these files are the run's own, or, if none is named, all of them.

    One that is missing is left to those who read it, but for a file of the start when none is
    named; spec.yaml of an unfinished run is left to `check_spec`. Without a record nothing can be
    checked.

    Raises:
        RunFolderError: names those that are others.
    """
    record = read_record(folder)
    if record is None:
        return
    # Before metrics.json, the last of all, other files of the end may have been written.
    known = record.files if folder.finished else record.files | record.start
    allowed = {name: {digest, record.files.get(name, digest)} for name, digest in known.items()}
    begun = [name for name in record.start if name != "spec.yaml"]
    if not names and (folder.finished or folder.state.is_file()):  # else its start was not over
        _refuse(folder, [name for name in begun if not (folder.path / name).is_file()])
    if folder.finished:
        names = (*names, "metrics.json") if names else tuple(known)
    elif not names:
        names = (*begun, *(name for name in BETWEEN if name in record.files))
    found = [name for name in names if (folder.path / name).is_file()]
    _refuse(folder, [n for n in found if not is_one_of(folder.path / n, allowed.get(n, ()))])


def check_model(folder: RunFolder) -> State | None:
    """Check that the model that will be loaded is the one that the run wrote.

    Returns:
        The state of an unfinished run, whose best model so far it is; None for a finished run.

    Raises:
        RunFolderError: it is another, or nothing was validated yet, so that there is no model.
    """
    record = read_record(folder)
    if folder.finished:
        path = folder.model if folder.model.is_file() else folder.best  # a copy of it
        written = [record.files.get("model.keras", "")] if record else []
        if record and path.is_file() and not is_one_of(path, written):
            _refuse(folder, [str(path.relative_to(folder.path))])
        return None
    state = read_state(folder)
    check_state(folder, state, record)
    again = f"Go on with: tlkit train --resume {folder.path}"
    if state.best is not None and not folder.best.is_file():
        raise RunFolderError(
            f"run {folder.path}: checkpoints/best.keras is missing, or is no file; it is written "
            f"anew from the run's state. {again}"
        )
    if state.best is None:
        raise RunFolderError(
            f"run {folder.path}: is unfinished and holds no model yet: none has been validated. "
            + again
        )
    if record and not is_one_of(folder.best, [state.best_digest]):
        raise RunFolderError(
            f"run {folder.path}: checkpoints/best.keras is damaged or was replaced, or the run was "
            f"killed while it wrote it: it is not the one of its state. {again}"
        )
    return state


def check_state(folder: RunFolder, state: State, record: Record | None) -> None:
    """Check that a state, if one was written, is this run's.

    Raises:
        RunFolderError: it is another run's.
    """
    if record and folder.state.is_file() and state.run != record.run:
        raise RunFolderError(
            f"run {folder.path}: checkpoints/{folder.state.name} is the state of another run; put "
            "its own back, or remove the file to begin anew"
        )


def check_spec(folder: RunFolder, spec: RunSpec) -> list[str]:
    """Check that spec.yaml says what the run was started with.

    Returns:
        The fields in which it may differ, as the run is unfinished, and does.

    Raises:
        RunFolderError: it says something else.
    """
    record = read_record(folder)
    if record is None:
        return []
    if folder.finished:
        check_files(folder, "spec.yaml")
        return []
    now = spec.model_dump(mode="json")
    begun = renamed(record.spec)
    edited = [name for name, value in begun.items() if now.get(name) != value]
    wrong = [name for name in edited if name not in FREE]
    if wrong:
        raise RunFolderError(
            f"run {folder.path}: spec.yaml is not the one that it was started with: it differs in "
            f"{', '.join(wrong)}. Allowed: changes of {', '.join(FREE)}; for others train anew"
        )
    return edited


def _refuse(folder: RunFolder, names: Sequence[str]) -> None:
    """Raise if there are `names` of files that are not the run's own."""
    if names:
        one = len(names) == 1
        are, were, others = ("is", "was", "another") if one else ("are", "were", "others")
        remedy = "Put back what it wrote, or train anew"
        if one and names[0] in DISPENSABLE:
            remedy = REMEDIES[names[0]].format(run=folder.path)
        elif list(names) == [folder.model.name] and folder.best.is_file():
            remedy = f"The same weights are in {folder.best}: put a copy in its place"
        raise RunFolderError(
            f"run {folder.path}: {', '.join(names)} {are} damaged or {were} replaced: by "
            f"{RECORD} the run wrote {others}. {remedy}"
        )


def as_texts(files: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each JSON file."""
    return {name: as_json(value) for name, value in files.items()}
