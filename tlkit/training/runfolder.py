"""The run folder: the one thing that crosses from training to evaluation, export and serving."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from tlkit.errors import RunFolderError
from tlkit.places import check_free
from tlkit.plain_yaml import read_yaml
from tlkit.recipe import make_spec
from tlkit.spec import RunSpec

DRAFT = ".draft-"
"""How the names of files begin that are being written."""


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
        return (self.path / "metrics.json").is_file()

    def create(self, spec: RunSpec) -> None:
        """Make the folder with its `spec.yaml`: both at once, so that there is none without.

        Raises:
            RunFolderError: it cannot be made, or holds something already.
        """
        check_free(self.path)
        try:
            if self.path.exists():  # an empty one; it may be a mount, which cannot be replaced
                self.best.parent.mkdir()
                self.write_text("spec.yaml", spec.to_yaml())
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}-"))
            try:
                draft.chmod(0o755)
                (draft / "checkpoints").mkdir()
                RunFolder(draft).write_text("spec.yaml", spec.to_yaml())
                os.replace(draft, self.path)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            raise RunFolderError(f"--out {self.path}: cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def draft(self, target: Path) -> Iterator[Path]:
        """Give a path to write to, which becomes `target` in one step at the end.

        A reader sees the old file or the new one; of a write that fails nothing is left.
        """
        # With the target's ending: Keras goes by it.
        draft = target.with_name(f"{DRAFT}{target.name}")
        try:
            yield draft
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)

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
        """Save `model` as `target`, atomically."""
        with self.draft(target) as draft:
            model.save(draft)

    def copy(self, source: Path, target: Path) -> None:
        """Copy `source` to `target`, atomically."""
        with self.draft(target) as draft:
            shutil.copyfile(source, draft)

    def read_json(self, name: str) -> Any:
        """Return the content of `name`.

        Raises:
            RunFolderError: the file is missing: this is no run folder, or the run did not get far.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(f"run {self.path}: {name} is missing or unreadable") from error

    def read_engine(self) -> str | None:
        """Return the engine that the run computes frozen features with, once it is chosen."""
        return (
            self.read_json("engine.json")["name"] if (self.path / "engine.json").exists() else None
        )

    def note_batch(self, phase: str, epoch: int, size: int, rate: float | None, why: str) -> None:
        """Note in `plan.json`, if there is one, that from an epoch on batches have another size."""
        if not (self.path / "plan.json").is_file():
            return
        plan = self.read_json("plan.json")
        row = {"phase": phase, "epoch": epoch, "batch_size": size, "learning_rate": rate}
        plan["changes"] = [*plan.get("changes", []), {**row, "reason": why}]
        self.write_json("plan.json", plan)

    def read_spec(self) -> RunSpec:
        """Return the run's spec.

        Raises:
            RunFolderError: there is no `spec.yaml`, or it is no YAML.
        """
        try:
            fields = read_yaml((self.path / "spec.yaml").read_bytes(), RunSpec)
        except OSError as error:
            problem = (
                "is no run folder (spec.yaml is missing)"
                if self.path.is_dir()
                else ("does not exist")
            )
            raise RunFolderError(
                f"run {self.path}: {problem}. Allowed: a folder made by tlkit train"
            ) from error
        except ValueError as error:
            raise RunFolderError(f"run {self.path}: spec.yaml is damaged") from error
        if isinstance(fields, dict):  # of a version that knew neither: it decoded like this
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
        except (ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            problem = f"is damaged: {reason}"
            if "Lambda" in reason:  # Keras's safe mode
                problem = "holds a Lambda layer, which may run any code, and is not loaded"
            raise RunFolderError(f"run {self.path}: {path.name} {problem}") from error

    def append_log(self, metric: str, row: dict[str, Any]) -> None:
        """Add a row to `log.csv`, whole or not at all; `metric` is the name of the task's."""
        values = ("loss", metric, "val_loss", f"val_{metric}")
        columns = ("phase", "epoch", *values, "learning_rate", "l2", "seconds")
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

    def count_log(self) -> int:
        """Return the number of rows of `log.csv`."""
        return max(0, self.log.read_bytes().count(b"\n") - 1) if self.log.exists() else 0

    def keep_log(self, count: int) -> None:
        """Keep the first `count` rows; the others are of epochs that are going to be run again."""
        rows = self.read_log()
        if not count:
            self.log.unlink(missing_ok=True)
        elif len(rows) > count:
            self._write_log(list(rows[0]), rows[:count])

    def _write_log(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(self.log.name, text.getvalue())

    def read_log(self) -> list[dict[str, str]]:
        """Return the rows of `log.csv`."""
        if not self.log.exists():
            return []
        with self.log.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


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
