"""The time budget of a run: keeps the clock, asks `deepening`, says what was decided and why."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from tlkit.planning.budget_rules import Measured, fit_epochs, go_deeper
from tlkit.planning.phases import Phase
from tlkit.progress import Progress
from tlkit.training.timing import Deadline


class Budget:
    """Time that a run may take; without a limit it lets everything pass.

    The clock is looked at after each step, so that a run ends late by at most one validation, the
    measurement on the test part, and, where features have to be computed anew, their pass.

    Args:
        seconds: for the whole run up to its last validation; None: no limit.
        spent: seconds of it that had gone before this object was made.
    """

    def __init__(self, seconds: float | None, spent: float):
        self._end = None if seconds is None else time.monotonic() + seconds - spent

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._end is not None

    @property
    def left(self) -> float:
        """Seconds left; infinite without a limit."""
        return math.inf if self._end is None else self._end - time.monotonic()

    def resume(self, finished: Sequence[Any]) -> None:
        """Take off what phases of an earlier start of this run took."""
        if self._end is not None:
            self._end -= sum(result.seconds + result.prefix_seconds for result in finished)

    def begins(self, phase: Phase, finished: Sequence[Any], progress: Progress) -> bool:
        """Tell whether `phase` is begun after `finished` ones (`PhaseResult`s)."""
        if self._end is None or not finished:
            return True
        done = [Measured(r.name, r.seconds + r.prefix_seconds, r.gain) for r in finished]
        decision = go_deeper(done, self.left, finished[0].prefix_seconds)
        verb = "begun" if decision.epochs else "left out"
        progress.say("budget", f"{phase.name} {verb}: {decision.reason}")
        return bool(decision.epochs)

    def shortened(
        self, phase: Phase, epoch: float, deepest: bool, progress: Progress
    ) -> Phase | None:
        """Return `phase` with the epochs that fit; None: not one does.

        Args:
            epoch: estimated seconds of an epoch, validation included.
        """
        decision = fit_epochs(phase.epochs, epoch, self.left, deepest)
        progress.say("budget", f"{phase.name}: {decision.reason}")
        return replace(phase, epochs=decision.epochs) if decision.epochs else None

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Return what ends a phase when the time is up."""
        return [] if self._end is None else [Deadline(self._end)]
