"""The state of a run on disk: all that a stopped run needs to go on as if it had not been."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import keras
import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from tlkit.data.pictures.files import check_regular
from tlkit.runfolder.folder import RunFolder

ARRAYS = ("best_weights", "variables", "optimizer")

KEPT = ("best", "wait", "cooldown_counter", "best_epoch", "stopped_epoch")
"""Attributes of Keras's ReduceLROnPlateau and EarlyStopping that change in the epochs; each `fit`
begins by forgetting them."""


@dataclass(frozen=True)
class PhaseResult:
    """What `metrics.json` says of a phase.

    Attributes:
        calibration: fields of a `Calibration` by the folds of a solved head; None: no such folds.
    """

    name: str
    trainable_parameters: int
    seconds: float
    prefix_seconds: float
    best_val: float
    cached: bool
    gain: float | None = None
    device: str = ""
    precision: str = ""
    images_per_second: float | None = None
    batch_size: int | None = None
    calibration: dict[str, Any] | None = None


@dataclass
class State:
    """A run at the start of an epoch. What was done in the epoch is done again, with equal numbers.

    Attributes:
        finished: results of the finished phases.
        epoch: epochs done in the phase after them.
        epochs: that a time budget gave that phase; None: as planned, or not decided yet.
        over: that phase needs no further epoch (early stopping, or its last one is done).
        before: `best` as it was at the phase's start.
        best: validation loss and metric of `best_weights`; None before the first epoch's end.
        best_weights: of the delivered model.
        variables: of the trained model, with the states of its random generators; empty at a
            phase's start, which begins with the best weights.
        optimizer: its variables.
        callbacks: what Keras's callbacks counted, by class.
        log_rows: rows of `log.csv` that belong to this state; later ones are of lost epochs.
        log_digest: hash of `log.csv` up to these rows; empty in a state of an earlier version.
        seconds: spent on the run so far.
        phase_seconds: of these, on the phase that is not finished.
        run: number of the run that it belongs to, see `record.Record`.
        best_digest: hash of checkpoints/best.keras; empty before there is one.
        batch_size: images a step from here on; None: as in the spec.
        fitted: `batch_size` and `learning_rate` by which `optimizer` came about; None at a phase's
            start.
    """

    finished: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 0
    epochs: int | None = None
    over: bool = False
    before: dict[str, float] | None = None
    best: dict[str, float] | None = None
    best_weights: list[np.ndarray] = field(default_factory=list)
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    log_rows: int = 0
    log_digest: str = ""
    seconds: float = 0.0
    phase_seconds: float = 0.0
    run: str = ""
    best_digest: str = ""
    batch_size: int | None = None
    fitted: dict[str, float] | None = None

    def write(self, folder: RunFolder) -> None:
        """Write all of it as one file, in one step: no two parts can ever disagree."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ARRAYS}
        arrays = {
            f"{name}_{i}": array for name in ARRAYS for i, array in enumerate(getattr(self, name))
        }
        with folder.draft(folder.state) as draft, draft.open("wb") as file:
            text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
            seal = np.frombuffer(_seal({"json": text, **arrays}), np.uint8)
            np.savez(file, json=text, seal=seal, **arrays)


def read_state(folder: RunFolder) -> State:
    """Return the state of a stopped run; that of its beginning if it wrote none.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not os.path.lexists(folder.state):
        return State()
    try:
        check_regular(folder.state)
        if not zipfile.is_zipfile(folder.state):  # NumPy would speak of pickles
            raise ValueError("no file of arrays")
        # Of a file that it opens itself NumPy leaves a damaged one open.
        with folder.state.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            text, seal = file["json"], file["seal"] if "seal" in file.files else None
            plain = json.loads(text.tobytes())
            arrays = {
                name: [file[f"{name}_{i}"] for i in range(_count(file.files, name))]
                for name in ARRAYS
            }
        named = {f"{name}_{i}": x for name in ARRAYS for i, x in enumerate(arrays[name])}
        # A state of an earlier version has none.
        if seal is not None and seal.tobytes() != _seal({"json": text, **named}):
            raise ValueError("it was edited since the run wrote it")
        _CONTENT.validate_python(plain, strict=True)
        return State(**plain, **arrays)
    except Exception as error:  # of zip, NumPy, JSON, or of what is no such file
        reason = getattr(error, "strerror", None) or error
        raise folder.damaged("checkpoints/state.npz", reason) from error


def _seal(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a hash of all of a state: its zip file tells flipped bits, not an edit."""
    seal = hashlib.blake2b(digest_size=16)
    for name, array in arrays.items():
        seal.update(f"{name} {array.shape}\n".encode())
        seal.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return seal.digest()


class _Content(TypedDict, total=False):
    finished: list[dict[str, Any]]
    epoch: Annotated[int, Field(ge=0)]
    epochs: int | None
    over: bool
    before: dict[str, float] | None
    best: dict[str, float] | None
    callbacks: dict[str, dict[str, float | None]]
    log_rows: Annotated[int, Field(ge=0)]
    log_digest: str
    seconds: float
    phase_seconds: float
    batch_size: Annotated[int, Field(gt=0)] | None
    fitted: dict[str, float | None] | None


_CONTENT = TypeAdapter(_Content)


def _count(names: Sequence[str], prefix: str) -> int:
    return sum(name.rpartition("_")[0] == prefix for name in names)


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Return copies of the variables' values."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Put `values` into `variables`, one for one."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def adapt(optimizer: keras.optimizers.Optimizer, steps: float, rate: float) -> None:
    """Let an optimizer whose values were taken with other batches go on.

    Momenta stay: they are means over steps. Of a schedule it is the same share that is done.

    Args:
        steps: of an epoch now, as a multiple of those before.
        rate: the learning rate, likewise; it is a variable where no schedule gives it.
    """
    for variable in optimizer.variables:
        value = keras.ops.convert_to_numpy(variable)
        if variable.name == "iteration":
            variable.assign(np.round(value * steps))
        elif variable.name == "learning_rate":
            variable.assign(value * rate)


def counts_of(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, dict[str, Any]]:
    """Return what the callbacks have counted, as plain numbers."""
    return {
        type(callback).__name__: {
            name: value if value is None else float(value)
            for name in KEPT
            if hasattr(callback, name) and np.ndim(value := getattr(callback, name)) == 0
        }
        for callback in callbacks
    }


def set_counts(
    callbacks: Sequence[keras.callbacks.Callback], counts: dict[str, dict[str, Any]]
) -> None:
    """Put back what `counts_of` returned."""
    for callback in callbacks:
        for name, value in counts.get(type(callback).__name__, {}).items():
            setattr(callback, name, value)
