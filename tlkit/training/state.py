"""The state of a run on disk: all that a stopped run needs to go on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tlkit.errors import RunFolderError
from tlkit.training.runfolder import RunFolder

ARRAYS = ("best_weights", "variables", "optimizer")

KEPT = ("best", "wait", "cooldown_counter", "best_epoch", "stopped_epoch")
"""Attributes of Keras's ReduceLROnPlateau and EarlyStopping that change in the epochs; each `fit`
begins by forgetting them."""


@dataclass(frozen=True)
class PhaseResult:
    """What `metrics.json` says of a phase."""

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
        seconds: spent on the run so far.
        phase_seconds: of these, on the phase that is not finished.
        run: number of the run that it belongs to, see `record.Record`.
        best_digest: hash of checkpoints/best.keras; empty before there is one.
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
    seconds: float = 0.0
    phase_seconds: float = 0.0
    run: str = ""
    best_digest: str = ""

    def write(self, folder: RunFolder) -> None:
        """Write all of it as one file, in one step: no two parts can ever disagree."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ARRAYS}
        arrays = {
            f"{name}_{i}": array for name in ARRAYS for i, array in enumerate(getattr(self, name))
        }
        with folder.draft(folder.state) as draft, draft.open("wb") as file:
            np.savez(file, json=np.frombuffer(json.dumps(plain).encode(), np.uint8), **arrays)


def read_state(folder: RunFolder) -> State:
    """Return the state of a stopped run; that of its beginning if it wrote none.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not folder.state.is_file():
        return State()
    try:
        with np.load(folder.state, allow_pickle=False) as file:
            plain = json.loads(file["json"].tobytes())
            arrays = {
                name: [file[f"{name}_{i}"] for i in range(_count(file.files, name))]
                for name in ARRAYS
            }
            return State(**plain, **arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"run {folder.path}: {folder.state.name} is damaged") from error


def _count(names: Sequence[str], prefix: str) -> int:
    return sum(name.rpartition("_")[0] == prefix for name in names)


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Return copies of the variables' values."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Put `values` into `variables`, one for one."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


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
