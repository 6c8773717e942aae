"""What the phases of a run share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import keras

from tlkit.compute.devices import ONE_CPU, Devices
from tlkit.compute.engines import Engine, candidates
from tlkit.data.column import Column, remembered
from tlkit.data.feed.examples import Examples
from tlkit.features.cache import features_folder
from tlkit.features.store import FeatureStore
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.runfolder.record import note
from tlkit.runfolder.state import State, assign, values_of
from tlkit.spec.run import RunSpec
from tlkit.tasks.task import Task
from tlkit.training.budget import Budget
from tlkit.training.callbacks import Checkpoints


class Parts(NamedTuple):
    """The data of a run.

    Attributes:
        train, val: what is trained on, and what the best model is chosen by.
        whole: both, and what else the model will be measured on: features are kept of them all.
    """

    train: Examples
    val: Examples
    whole: Examples


class Session:
    """The model, its data, and where the run stands; `Trainer` and `Fitting` work on it.

    Args:
        spent: seconds that the run has taken before.
        state: where a run was stopped; it goes on there.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        spec: RunSpec,
        parts: Parts,
        folder: RunFolder,
        progress: Progress,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        *,
        machine: Devices = ONE_CPU,
        spent: float = 0.0,
        state: State | None = None,
    ):
        self.model, self.task, self.spec = model, task, spec
        self.train, self.val = parts.train, parts.val
        self.folder, self.progress, self.callbacks = folder, progress, list(callbacks)
        self.machine = machine
        self.estimates: dict[str, dict[str, Any]] = {}
        self.budget = Budget(spec.budget, spent)
        limit = int(spec.cache_size * 2**30)
        names = candidates(folder.read_engine() or spec.engine, spec.deterministic)
        cache, whole = features_folder(), parts.whole
        self.store = FeatureStore(model, cache, limit, whole, progress, names, self._note_engine)
        # Random generators of layers (dropout): each phase begins with them as they are now.
        weights = {id(variable) for variable in model.weights}
        self._generators = [v for v in model.variables if id(v) not in weights]
        self._seeds = values_of(self._generators)
        self.checkpoints = Checkpoints(model, task, folder, state or State())
        if self.batch_size != spec.batch_size:
            self.use_batch(self.batch_size)

    @functools.cached_property
    def kept_targets(self) -> tuple[Column, Column]:
        """Targets of all kept views of the training part, and of the validation part."""
        seen = self.train.all_views or self.train
        return remembered(seen.targets), remembered(self.val.targets)

    @property
    def batch_size(self) -> int:
        """Images in one training step: as asked for, or fewer where memory did not hold them."""
        return self.checkpoints.state.batch_size or self.spec.batch_size

    def use_batch(self, size: int) -> None:
        """Go on with batches of `size`."""
        self.checkpoints.state = replace(self.checkpoints.state, batch_size=size)
        self.train, self.val = self.train.batched(size), self.val.batched(size)

    def reset_generators(self) -> None:
        """Put the random generators of layers back to where each phase begins."""
        assign(self._generators, self._seeds)

    def _note_engine(self, engine: Engine) -> None:
        """Write which engine was chosen: a resumed run keeps it, and what its trial told."""
        if engine.name != self.folder.read_engine():
            note(self.folder, "engine.json", asdict(engine))
