"""How deep to unfreeze within a time budget: pure decisions from measured results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.5
"""Share of the time left that a phase may take while a deeper one is to come."""


@dataclass(frozen=True)
class Measured:
    """What a finished phase brought.

    Attributes:
        name: of the phase.
        seconds: that it took, features included.
        gain: on what the best model has the highest of (`Task.score`); of the head None.
    """

    name: str
    seconds: float
    gain: float | None


@dataclass(frozen=True)
class Decision:
    """How many epochs the next phase gets, 0 for none, and why."""

    epochs: int
    reason: str


def go_deeper(done: Sequence[Measured], left: float, features: float) -> Decision:
    """Decide before a phase, whose speed is not known yet, whether it is begun at all.

    Args:
        done: the finished phases, in order.
        left: seconds left of the budget.
        features: seconds that computing the phase's features may take.

    Returns:
        One epoch or none: how many it will be, `fit_epochs` says.
    """
    last = done[-1]
    if left <= features:
        return Decision(0, f"{max(left, 0):.0f} s left, its features alone may take {features:.0f}")
    if last.gain is None:
        return Decision(1, f"{left:.0f} s left")
    if last.gain <= 0:
        return Decision(0, f"{last.name} gained nothing on validation")
    rate = last.gain / max(last.seconds, 1e-3) * 60
    return Decision(
        1, f"{last.name} gained {last.gain:.3g}, {rate:.2g} a minute; {left:.0f} s left"
    )


def fit_epochs(most: int, epoch: float, left: float, deepest: bool) -> Decision:
    """Decide how many epochs a phase gets, once a step of it has been measured.

    Args:
        most: epochs that the rules give it.
        epoch: estimated seconds of one, validation included.
        left: seconds left of the budget.
        deepest: no deeper phase is to come, so that nothing has to be left.
    """
    left = max(left, 0.0)
    whole = int(left / epoch)
    share = whole if deepest else int(SHARE * left / epoch)
    epochs = min(most, max(share, min(whole, 1)))
    what = f"an epoch takes about {epoch:.1f} s, {left:.0f} s left"
    if not epochs:
        return Decision(0, f"{what}: not one fits")
    return Decision(epochs, f"{what}: {epochs} of at most {most} epochs")
