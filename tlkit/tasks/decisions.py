"""How answers are decided by their probabilities: a threshold of one's own, sets of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tlkit.errors import SpecError, received

ALLOWED = "a number between 0 and 1, f1, recall=R or precision=P"


@dataclass(frozen=True)
class Decision:
    """How a person wants answers decided; None: as ever.

    Attributes:
        threshold: see `read_threshold`.
        positive: the one of two classes that is given from there on.
        coverage: see `prediction_sets`.
    """

    threshold: float | str | None = None
    positive: str | None = None
    coverage: float | None = None

    def given(self) -> dict[str, float | str]:
        """Return what was asked for, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def check(self) -> None:
        """Check what can be without a run.

        Raises:
            SpecError: the threshold is none.
        """
        if self.threshold is not None:
            read_threshold(self.threshold)

    @property
    def validated(self) -> list[str]:
        """What of it is chosen on validation images."""
        names = [] if self.coverage is None else ["coverage"]
        chosen = self.threshold is not None and read_threshold(self.threshold).chosen
        return [*(["threshold"] if chosen else []), *names]


AS_EVER = Decision()


@dataclass(frozen=True)
class Threshold:
    """A threshold that was asked for.

    Attributes:
        kind: `value`, `f1`, `recall` or `precision`.
        value: the probability, recall or precision, 0 to 1; of `f1` none.
    """

    kind: str
    value: float | None = None

    @property
    def chosen(self) -> bool:
        """Whether it has to be chosen on validation images."""
        return self.kind != "value"


def read_threshold(asked: float | str) -> Threshold:
    """Return a threshold from a number, or from `f1`, `recall=0.95`, `precision=0.9`.

    Raises:
        SpecError: it is none of these.
    """
    text = str(asked).strip()
    kind, equals, number = text.rpartition("=")
    if text == "f1":
        return Threshold("f1")
    if kind in ("recall", "precision") or not equals:
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if 0 < value < 1 or (equals and value == 1):
            return Threshold(kind or "value", value)
    raise SpecError(f"threshold: Allowed: {ALLOWED}. Received: {received(asked)}")


def common_threshold(asked: float | str, each: str, all_: str) -> float:
    """Return one threshold for all outputs, where each has its own by the highest F1.

    Args:
        each, all_: what an output is called, and all of them.

    Raises:
        SpecError: it is to be chosen.
    """
    threshold = read_threshold(asked)
    if threshold.chosen:
        raise SpecError(
            f"threshold: each {each} has the threshold with the highest F1 on validation images. "
            f"Allowed: left out, or a number for all {all_}. Received: {asked}"
        )
    return threshold.value


@dataclass(frozen=True)
class Cutoff:
    """From which probability on the one of two classes is given that is looked for.

    Attributes:
        positive: the index of that class.
        start: its probability.
        reason: where it is from.
    """

    positive: int
    start: float
    reason: str


def choose(asked: Threshold, truth: np.ndarray, p: np.ndarray) -> tuple[float, str]:
    """Return the probability from which on a class is given, and what that gave here.

    Candidates lie in the middle between neighbouring probabilities. Of `f1` it is that with the
    highest F1, of `recall=R` that with the highest precision of those with at least this recall, of
    `precision=P` the other way round; of equal ones that with more recall (`precision=P`: more
    precision), then the highest.

    Args:
        truth: bool (n,), whether each image is of the class.
        p: probability of the class (n,).

    Raises:
        SpecError: none has the precision that is asked for, or there is no image of the class.
    """
    if not truth.any():
        raise SpecError("threshold: no validation image is of the positive class to choose it on")
    values = np.unique(p)
    starts = np.append(values[:1] / 2, (values[1:] + values[:-1]) / 2)
    given = np.searchsorted(np.sort(p), starts)
    hits = truth.sum() - np.searchsorted(np.sort(p[truth]), starts)
    recall, precision = hits / truth.sum(), hits / (len(p) - given)
    f1 = 2 * hits / (truth.sum() + len(p) - given)
    least = (asked.value or 0.0) - 1e-12  # as 0.95 is not quite 19 / 20
    first, second = {
        "f1": (f1, recall),
        "recall": (np.where(recall >= least, precision, -1), recall),
        "precision": (np.where(precision >= least, recall, -1), precision),
    }[asked.kind]
    best = max(range(len(starts)), key=lambda i: (first[i], second[i], starts[i]))
    if first[best] < 0:
        raise SpecError(
            f"threshold: none has a precision of {asked.value:g} on {len(p):,} validation images. "
            f"Allowed: up to {precision.max():.3f}. Received: precision={asked.value:g}"
        )
    got = f"precision {precision[best]:.3f}, recall {recall[best]:.3f}, F1 {f1[best]:.3f}"
    wanted = asked.kind if asked.value is None else f"{asked.kind}={asked.value:g}"
    return float(starts[best]), f"{wanted} on {len(p):,} validation images: {got}"


@dataclass(frozen=True)
class Sets:
    """From which probability on a label is in the set of an image; its most probable always is.

    Attributes:
        coverage: share of sets that shall hold the true label, at least.
        start: the probability.
        images: validation images by which it was found.
    """

    coverage: float
    start: float
    images: int

    def members(self, outputs: np.ndarray) -> np.ndarray:
        """Return which labels are in each set, bool (n, classes)."""
        best = np.arange(outputs.shape[1]) == outputs.argmax(axis=1)[:, None]
        return best | (outputs >= self.start)


def prediction_sets(truths: Sequence[float], coverage: float) -> Sets:
    """Return sets that hold the true label with a probability of at least `coverage`, over images
    like those of the validation part.

    Split conformal prediction with the score 1 - probability of the true class (Angelopoulos &
    Bates 2021, section 1.1; Sadinle et al. 2019): the threshold is its ceil((n + 1) coverage)-th
    smallest, which is right for any n. The most probable label is added where it would be missing,
    so that no set is empty; that can only raise the coverage.

    Args:
        truths: probability of the true class of n validation images.
        coverage: above 0, below 1.

    Raises:
        SpecError: another coverage, or too few images for it.
    """
    if not 0 < coverage < 1:
        raise SpecError(
            f"coverage: must lie above 0, below 1. Allowed: such as 0.9. Received: {coverage}"
        )
    count = len(truths)
    # Less rounding: (9 + 1) x 0.9 is a whole number.
    place = math.ceil(round((count + 1) * coverage, 9))
    if place > count:
        most = count / (count + 1)
        raise SpecError(
            f"coverage: {count:,} validation images are too few: (n + 1) x coverage must not be "
            f"above n. Allowed: up to {math.floor(most * 1000) / 1000:g}. "
            f"Received: {coverage:g}"
        )
    return Sets(coverage, float(np.sort(np.asarray(truths))[::-1][place - 1]), count)
