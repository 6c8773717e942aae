"""What goes wrong in finding objects: kinds of error, confusion, and where a score is enough."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tlkit.tasks.box_metrics import RIGHT_FROM, overlap
from tlkit.tasks.detection_ap import Matches

NEAR_FROM = 0.1
"""IoU from which an answer is about an object at all (Bolya et al. 2020, "TIDE", section 2.2)."""

UNCHOSEN = 0.5
"""Threshold of a class that has no right answer by which one could be chosen."""

RIGHT, CLASS, PLACE, BOTH, DUPLICATE, BACKGROUND, ASIDE, BELOW = range(8)
KINDS = ("right", "class", "place", "both", "duplicate", "background", "aside", "below")
"""What answers are. Errors are those from `class` to `background`; `aside`: it finds an object that
does not count, or is beyond the number of answers that count; `below`: its score is below the
threshold of its class."""

MISSED = "missed"
ERRORS = (*KINDS[CLASS : BACKGROUND + 1], MISSED)


@dataclass(frozen=True)
class Kinds:
    """What answers and objects are at the thresholds.

    Attributes:
        kind: of each answer (n,), a place in `KINDS`.
        about: the true object (n,) that each answer finds, or is mistaken about; -1: none.
        iou: with it (n,); without one, the largest with any object of the image.
        found: bool (m,), the true objects that an answer with a sufficient score finds.
        missed: bool (m,), those that are not found and that no error of class or place is about;
            objects that do not count are never missed.
    """

    kind: np.ndarray
    about: np.ndarray
    iou: np.ndarray
    found: np.ndarray
    missed: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """The answers (n,) that are errors."""
        return (self.kind >= CLASS) & (self.kind <= BACKGROUND)

    def count(self) -> dict[str, int]:
        """Return how many errors of each of `ERRORS` there are."""
        each = np.bincount(self.kind, minlength=len(KINDS))[CLASS : BACKGROUND + 1]
        return dict(zip(ERRORS, map(int, (*each, self.missed.sum())), strict=True))


def running_counts(
    scores: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different scores (k,), best first, and how many answers that reach each are right
    (k,) and how many there are (k,).

    Args:
        scores, right: of the answers of one class that count (n,).
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of answers with the same score
    return scores[last], hits[last], last + 1


def best_thresholds(matches: Matches, classes: int) -> np.ndarray:
    """Return the score of each class from which on its answers have the best F1 at IoU 0.5; of
    several, the highest, and in the middle between two scores that occur: an export that computes
    one of them differently in the last digit accepts the same. `UNCHOSEN` where no answer is right.
    """
    objects, found = matches.count(classes), np.full(classes, UNCHOSEN)
    for k in range(classes):
        own = matches.counted & (matches.classes == k)
        scores, hits, given = running_counts(matches.scores[own], matches.right[own])
        if len(hits) and hits[-1]:
            last = int(np.argmax(2 * hits / (given + objects[k])))
            found[k] = np.append(scores, 0.0)[last : last + 2].mean()
    return found


def kinds_of(matches: Matches, thresholds: np.ndarray) -> Kinds:
    """Return what each answer is, by Bolya et al. 2020, section 2.2: of what fits the first.

    `duplicate`: a better answer found the object; `class`: another class's object, IoU at least
    0.5; `place`: one of its own class, at least 0.1; `both`: another class's, at least 0.1;
    `background`: nothing is there.

    Args:
        thresholds: of the classes (classes,), scores from which on answers are accepted.
    """
    kind = np.full(len(matches.scores), RIGHT)
    about, iou = matches.truth.copy(), np.zeros(len(kind))
    for rows, columns in _by_image(matches):
        if not len(columns):
            kind[rows] = BACKGROUND
            continue
        ious = overlap(matches.boxes[rows][:, None], matches.true_boxes[columns], np)
        same = matches.classes[rows][:, None] == matches.true_classes[columns]
        whose, kind[rows] = _mistaken(ious, same)
        about[rows] = np.where(whose >= 0, columns[whose], -1)
        iou[rows] = np.where(whose >= 0, ious[np.arange(len(rows)), whose], ious.max(axis=1))
        mine = np.flatnonzero(matches.truth[rows] >= 0)
        about[rows[mine]] = matches.truth[rows[mine]]
        at = np.searchsorted(columns, matches.truth[rows[mine]])
        iou[rows[mine]] = ious[mine, at]
    kind[matches.right] = RIGHT
    kind[~matches.counted] = ASIDE
    kind[matches.counted & (matches.scores < thresholds[matches.classes])] = BELOW
    objects = np.arange(len(matches.aside))
    found = np.isin(objects, about[kind == RIGHT])
    covered = np.isin(objects, about[(kind == CLASS) | (kind == PLACE)])
    return Kinds(kind, about, iou, found, ~found & ~covered & ~matches.aside)


def _by_image(matches: Matches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places of the answers and of the objects of each image that has answers."""
    starts, true_starts = matches.bounds()
    for image in np.unique(matches.image):
        own, true = starts[image : image + 2], true_starts[image : image + 2]
        yield np.arange(*own), np.arange(*true)


def _mistaken(ious: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the object (n,) that each answer would be mistaken about, -1: none, and the kind of
    mistake (n,).

    Args:
        ious: of answers and objects of an image (n, m).
        same: whether they are of one class (n, m).
    """
    own, other = np.where(same, ious, -1.0), np.where(same, -1.0, ious)
    best_own, best_other = own.max(axis=1), other.max(axis=1)
    cases = [
        (best_own >= RIGHT_FROM, DUPLICATE, own),
        (best_other >= RIGHT_FROM, CLASS, other),
        (best_own >= NEAR_FROM, PLACE, own),
        (best_other >= NEAR_FROM, BOTH, other),
    ]
    fits = [fit for fit, _, _ in cases]
    whose = np.select(fits, [x.argmax(axis=1) for _, _, x in cases], -1)
    return whose, np.select(fits, [kind for _, kind, _ in cases], BACKGROUND)


def confusion_with_background(matches: Matches, kinds: Kinds, classes: int) -> np.ndarray:
    """Return true against answered classes at the thresholds, int64 (classes + 1, classes + 1); the
    last row and column are the background.

    Right answers come first; then accepted ones of a wrong class, better scores first, take the
    object not found yet that they overlap most, from IoU 0.5 on. Of each class, a row's sum is the
    number of objects and a column's that of the accepted answers.
    """
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    free = ~kinds.found & ~matches.aside
    right = kinds.kind == RIGHT
    np.add.at(counts, (matches.classes[right],) * 2, 1)
    wrong, (_, starts) = np.flatnonzero(kinds.wrong), matches.bounds()
    for i in wrong[np.argsort(-matches.scores[wrong], kind="stable")]:
        image, given = matches.image[i], matches.classes[i]
        others = np.arange(*starts[image : image + 2])
        others = others[free[others] & (matches.true_classes[others] != given)]
        ious = overlap(matches.boxes[i], matches.true_boxes[others], np)
        row = classes
        if len(others) and ious.max() >= RIGHT_FROM:
            taken = others[ious.argmax()]
            free[taken], row = False, matches.true_classes[taken]
        counts[row, given] += 1
    np.add.at(counts, (matches.true_classes[free], classes), 1)
    return counts
