"""The run folder: the one thing that crosses from training to evaluation, export and serving."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
from pydantic import ValidationError

from tlkit.atomic import file_draft, folder_draft
from tlkit.compute.memory import is_out_of_memory
from tlkit.data.pictures.files import parse_json, read_file
from tlkit.errors import RunFolderError, received
from tlkit.places import check_free
from tlkit.runfolder.contents import CONTENTS, REMEDIES
from tlkit.runfolder.portable import save_portable
from tlkit.spec.plain_yaml import read_yaml
from tlkit.spec.read import make_spec
from tlkit.spec.run import RunSpec

DRAFT = ".draft-"
"""How the names of files begin that are being written."""

LAST_FIELD = "deterministic"
"""A field near the end of spec.yaml, in those of every version."""


class RunFolder:
    """Paths, and atomic reading and writing of a run's files."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.model = self.path / "model.keras"
        self.best = self.path / "checkpoints" / "best.keras"
        self.last = self.path / "checkpoints" / "last.keras"
        self.state = self.path / "checkpoints" / "state.npz"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "tensorboard"

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "metrics.json").exists()

    def create(self, spec: RunSpec) -> None:
        """Make the folder with its `spec.yaml`: both at once, so that there is none without.

        Raises:
            RunFolderError: it cannot be made, or holds something already.
        """
        check_free(self.path, resumable=True)
        try:
            if self.path.exists():  # an empty one; it may be a mount, which cannot be replaced
                self.best.parent.mkdir()
                self.write_text("spec.yaml", spec.to_yaml())
                return
            with folder_draft(self.path) as draft:
                (draft / "checkpoints").mkdir()
                RunFolder(draft).write_text("spec.yaml", spec.to_yaml())
        except OSError as error:
            raise RunFolderError(f"--out {self.path}: cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def draft(self, target: Path) -> Iterator[Path]:
        """Give a path to write to, which becomes `target` in one step at the end.

        A reader sees the old file or the new one; of a write that fails nothing is left.
        """
        try:
            with file_draft(target, DRAFT) as draft:
                yield draft
        except (IsADirectoryError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
            name = target.relative_to(self.path)
            problem = f"run {self.path}: {name} cannot be written: {error.strerror}"
            raise RunFolderError(problem) from error

    def remove_drafts(self) -> None:
        """Remove what a killed process left half-written."""
        for path in self.path.rglob(f"{DRAFT}*"):
            path.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as `name`, atomically."""
        self.write_text(name, as_json(value))

    def write_text(self, name: str, text: str) -> None:
        """Write `text` as `name`, atomically."""
        with self.draft(self.path / name) as draft:
            draft.write_bytes(text.encode("utf-8"))

    def save_model(self, model: keras.Model, target: Path) -> None:
        """Save `model` as `target`, atomically, see `save_portable`."""
        with self.draft(target) as draft:
            save_portable(model, draft)

    def copy(self, source: Path, target: Path) -> None:
        """Copy `source` to `target`, atomically."""
        with self.draft(target) as draft:
            shutil.copyfile(source, draft)

    def read_json(self, name: str) -> Any:
        """Return the content of `name`, one of `CONTENTS`.

        Raises:
            RunFolderError: the file is missing (this is no run folder, or the run did not get far),
                or does not hold what it should; the message says what can still be done.
        """
        try:
            value = parse_json(read_file(self.path / name))
            CONTENTS[name].validate_python(value, strict=True)
            return value
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "as a whole"
            reason = f"{place}: {first['msg']}"
        except OSError as error:
            reason = error.strerror
        except ValueError as error:
            reason = f"no JSON: {error}"
        raise self.damaged(name, reason)

    def damaged(self, name: str, reason: object) -> RunFolderError:
        """Return the error for a file that does not hold what it should."""
        short = " ".join(str(reason).split())[:200]
        remedy = REMEDIES[name].format(run=self.path)
        return RunFolderError(
            f"run {self.path}: {name} is missing or unreadable: {short}. {remedy}"
        )

    def read_engine(self) -> str | None:
        """Return the engine that the run computes frozen features with, once it is chosen."""
        return (
            self.read_json("engine.json")["name"] if (self.path / "engine.json").exists() else None
        )

    def read_spec(self) -> RunSpec:
        """Return the run's spec.

        Raises:
            RunFolderError: there is no `spec.yaml`, or it is no YAML.
        """
        name, problem = "spec.yaml", ""
        if not os.path.lexists(self.path / name):
            there = self.path.is_dir()
            problem = f"is no run folder ({name} is missing)" if there else "does not exist"
            raise RunFolderError(
                f"run {self.path}: {problem}. Allowed: a folder made by tlkit train"
            )
        try:
            content = read_file(self.path / name)
            fields = read_yaml(content, RunSpec)
        except OSError as error:
            raise self.damaged(name, error.strerror) from error
        except ValueError as error:
            raise self.damaged(name, f"no YAML: {error}") from error
        if not isinstance(fields, dict):
            raise self.damaged(name, f"no mapping of options. Received: {received(fields)}")
        # It is written whole, and one that is cut would be read with defaults for the rest.
        if not content.endswith(b"\n") or LAST_FIELD not in fields:
            raise self.damaged(name, "its end is missing")
        # Of a version that knew neither: it decoded like this.
        fields = {"alpha": "drop", "bits": 16} | fields
        return make_spec(fields, f"{self.path}/spec.yaml")

    def load_model(self) -> keras.Model:
        """Return the delivered model, or the best checkpoint of a run that was stopped.

        Raises:
            RunFolderError: there is neither.
        """
        for path in (self.model, self.best) if self.finished else (self.best,):
            if path.is_file():
                return self._load(path)
        raise RunFolderError(
            f"run {self.path}: holds no model yet. Go on with: tlkit train --resume {self.path}"
        )

    def _load(self, path: Path) -> keras.Model:
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as error:  # of zip, JSON, HDF5, and whatever layers say of their values
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            problem = f"is damaged: {reason}"
            if "Lambda" in reason:  # Keras's safe mode
                problem = "holds a Lambda layer, which may run any code, and is not loaded"
            elif path == self.model and self.best.is_file():
                problem += f". The same weights are in {self.best}: put a copy in its place"
            elif path == self.best:
                problem += f". Train anew: tlkit train --recipe {self.path}/spec.yaml --out NEW"
            raise RunFolderError(f"run {self.path}: {path.name} {problem}") from error

    def append_log(self, metric: str, row: dict[str, Any]) -> None:
        """Add a row to `log.csv`, whole or not at all; see `Task.metric`."""
        values = ("loss", metric, "val_loss", f"val_{metric}")
        columns = ("phase", "epoch", *dict.fromkeys(values), "learning_rate", "l2", "seconds")
        if not self.log.exists():
            self._write_log(columns, [row])
            return
        text = io.StringIO()
        csv.DictWriter(text, columns, restval="").writerow(row)
        before = self.log.stat().st_size
        # Unbuffered: a row is one system call, which a kill does not cut in two.
        with self.log.open("ab", buffering=0) as file:
            line = text.getvalue().encode("utf-8")
            written = file.write(line)
            if written != len(line):  # the disk is full
                os.truncate(self.log, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.log))

    def log_state(self) -> tuple[int, str]:
        """Return the number of rows of `log.csv`, and a hash of it."""
        content = self.log.read_bytes() if self.log.exists() else b""
        return max(0, content.count(b"\n") - 1), _hash(content)

    def keep_log(self, count: int, digest: str) -> None:
        """Keep the first `count` rows; the others are of epochs that are going to be run again.

        Args:
            digest: what `log_state` said when there were so many; empty: it is not known.

        Raises:
            RunFolderError: the file is damaged, or not the one of that time.
        """
        if not count:
            self.log.unlink(missing_ok=True)
            return
        rows = self.read_log()
        if 0 < len(rows) < count:
            raise self.damaged(self.log.name, f"{len(rows)} rows, there were {count}")
        kept = (
            b"".join(self.log.read_bytes().splitlines(keepends=True)[: count + 1]) if rows else b""
        )
        if rows and digest and _hash(kept) != digest:
            raise self.damaged(self.log.name, "its rows are not those that the run wrote")
        if len(rows) > count:
            self._write_log(list(rows[0]), rows[:count])

    def _write_log(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(self.log.name, text.getvalue())

    def read_log(self) -> list[dict[str, str]]:
        """Return the rows of `log.csv`; none if there is no such file.

        Raises:
            RunFolderError: it is damaged.
        """
        try:
            if not os.path.lexists(self.log):
                return []
            text = read_file(self.log).decode("utf-8")
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
            if not rows or not text.endswith("\n"):
                raise ValueError("its end is missing")
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError("a row has not as many values as there are columns")
                for name in ("epoch", "loss", "val_loss"):
                    float(row[name])
            return rows
        except OSError as error:
            reason = error.strerror
        except KeyError as error:
            reason = f"there is no column {error}"
        except (ValueError, csv.Error) as error:
            reason = str(error)
        raise self.damaged(self.log.name, reason)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def as_json(value: Any) -> str:
    """Return the text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def next_folder(data: str, backbone: str, root: Path = Path("runs")) -> Path:
    """Return the first unused `runs/DATA-BACKBONE-NNNN`; of a long name it takes the beginning."""
    stem = re.sub(r"[^a-z0-9]+", "-", f"{data[:100]}-{backbone[:100]}".lower()).strip("-")
    number = 1
    while (root / f"{stem}-{number:04d}").exists():
        number += 1
    return root / f"{stem}-{number:04d}"
