"""The L2 strength of a solved head: on validation, or by cross-validation where that is tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from tlkit.data.feed.examples import Examples, joint_groups
from tlkit.planning import rules
from tlkit.solver.solve import TOLERANCE, Solution, solve
from tlkit.spec.run import RunSpec
from tlkit.tasks.calibration import Calibration, calibrate
from tlkit.tasks.task import Task

ClassWeights = Callable[[np.ndarray], np.ndarray | None]


@dataclass(frozen=True)
class HeadFit:
    """A solved head, and how its strength was chosen.

    Attributes:
        solution: solved on the training part, measured on the validation part.
        delivered: what goes into the model: `solution`, or its refit on both parts.
        reason: how the strength was chosen, for the person who watches.
        folded: what the folds gave, if it was chosen by such.
    """

    solution: Solution
    delivered: Solution
    reason: str
    folded: CrossValidation | None = None


@dataclass(frozen=True)
class CrossValidation:
    """A strength, and what heads of that strength gave on images they were not solved on.

    Attributes:
        l2: the strength with the lowest loss.
        loss, metric: of it, mean over all held-out examples.
        folds: number of them.
        calibration: a temperature by what they gave, each fold with the strength that has the
            lowest loss on it; None: the task has none.
    """

    l2: float
    loss: float
    metric: float
    folds: int
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Selection:
    """How the strength of a head is chosen, and on what terms it is solved.

    Attributes:
        weigh: makes `solve`'s weights of targets.
        choice: `validation`: the strength with the lowest validation loss; `folds`: with the lowest
            mean loss over the folds of training and validation part together; `auto`: by rule.
        refit: whether the delivered weights are solved once more, on both parts together.
        seed: of the folds; they are made of first views, lest an image stand on both sides.
        views: of each training image, how many there are features of.
        groups: numbers (n,) of the images that are folded; those of one number stay on one side of
            every fold. None: each stands alone.
    """

    weigh: ClassWeights = lambda targets: None
    choice: str = "auto"
    refit: bool = False
    seed: int = 0
    views: int = 1
    groups: np.ndarray | None = None


BY_RULE = Selection()


def selection_of(
    spec: RunSpec, task: Task, train: Examples, val: Examples, refit: bool
) -> Selection:
    """Return how a run's head is solved on these parts; `refit`: as in `Selection`."""

    def weigh(targets: np.ndarray) -> np.ndarray | None:
        return task.balance(targets, spec.balance).whole

    groups = joint_groups(train, val)
    return Selection(weigh, spec.head.strength, refit, spec.seed, train.views, groups)


def solve_head(
    x: Any,
    y: np.ndarray,
    val_x: Any,
    val_y: np.ndarray,
    task: Task,
    how: Selection = BY_RULE,
) -> HeadFit:
    """Solve a linear head with the L2 strength that `how` finds.

    Args:
        x: features of `how.views` views of all images, view after view.
        y: targets of each image once.
        val_x, val_y, task: as in `solve`; folds and refit hold both parts in memory.
        how: its groups are of the images of both parts.
    """
    choice, groups = how.choice, how.groups
    if choice == "auto":
        rule = rules.strength_choice(len(val_x))
        choice, reason = str(rule.value), rule.reason
    else:
        reason = "as asked for"
    both_y = np.concatenate([y, val_y])
    images, y = len(y), np.concatenate([y] * how.views)
    folded = None
    if choice == "folds":
        first = np.concatenate([x[:images], val_x[:]])
        folded = cross_validated(first, both_y, task, how)
    if folded:
        solution = solve(x, y, val_x, val_y, task, how.weigh(y), folded.l2)
        by = f"{folded.folds}-fold cross-validation"
    else:
        if choice == "folds":
            what = "examples" if groups is None else "groups"
            reason = f"too few {what} of a class for folds"
        solution, by = solve(x, y, val_x, val_y, task, how.weigh(y)), "validation loss"
    delivered = solution
    if how.refit:
        both_x, both_y = np.concatenate([x[:], val_x[:]]), np.concatenate([y, val_y])
        delivered = solve(both_x, both_y, val_x, val_y, task, how.weigh(both_y), solution.l2)
    text = f"L2 {solution.l2:.2g} by {by} ({reason})"
    unsolved = sorted({*solution.unsolved, *delivered.unsolved})
    if unsolved:
        shown = ", ".join(f"{l2:.2g}" for l2 in unsolved)
        text += f"; not converged to {TOLERANCE:.1%} of the lowest objective: L2 {shown}"
    return HeadFit(solution, delivered, text, folded)


def cross_validated(
    x: np.ndarray,
    y: np.ndarray,
    task: Task,
    how: Selection = BY_RULE,
) -> CrossValidation | None:
    """Return the strength with the lowest mean loss over folds; None: too few of a class for them.

    Only strengths that every fold came to are compared: each went on until its own loss had
    stopped falling.

    Args:
        x, y: features and targets, one row of each for an image.
        task: as in `solve`.
        how: of it `weigh`, `seed` and `groups`.
    """
    splits = _splits(y, task, how.seed, how.groups)
    totals: dict[float, list[np.ndarray]] = {}
    answers: list[np.ndarray] = []
    for inside, outside in splits:
        own = how.weigh(y[inside])
        found = solve(x[inside], y[inside], x[outside], y[outside], task, own)
        answers.append(x[outside] @ found.kernel + found.bias)
        for step in found.path:
            held_out = np.array([step.val_loss, step.val_metric]) * len(outside)
            totals.setdefault(step.l2, []).append(held_out)
    count = sum(len(outside) for _, outside in splits)
    means = {l2: sum(held) / count for l2, held in totals.items() if len(held) == len(splits)}
    if not means:
        return None
    l2 = min(means, key=lambda one: means[one][0])
    calibration = None
    if task.calibrates:
        targets = np.concatenate([y[outside] for _, outside in splits])
        what = f"images, each answered by heads of {len(splits)} folds that were solved without it"
        calibration = calibrate(np.concatenate(answers), targets, task, what, how.seed)
    return CrossValidation(l2, *map(float, means[l2]), len(splits), calibration)


def out_of_sample(
    x: np.ndarray, y: np.ndarray, task: Task, how: Selection = BY_RULE
) -> np.ndarray | None:
    """Return answers to examples by heads that were solved without them, float32 (n, outputs).

    Before the activation of the layer `predictions`; rows of NaN for the examples of a class that
    is in one example, or group, alone. Each fold has the strength with the lowest loss on it.

    Args:
        x, y, task, how: as in `cross_validated`.

    Returns:
        None: too few of a class for folds.
    """
    splits = _splits(y, task, how.seed, how.groups)
    if not splits:
        return None
    answers = np.full((len(x), len(task.outputs)), np.nan, np.float32)
    for inside, outside in splits:
        own = how.weigh(y[inside])
        found = solve(x[inside], y[inside], x[outside], y[outside], task, own)
        answers[outside] = x[outside] @ found.kernel + found.bias
    return answers


def _splits(
    y: np.ndarray, task: Task, seed: int, groups: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of indices, folds stratified by class; nothing where there are too few.

    A class in a single example, or group, is solved for in every fold and measured in none. Sets of
    labels are no classes: with many labels each would be its own.
    """
    number = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if y.ndim > 1 or task.solver != "softmax":
        units = number.max() + 1
        folds = min(rules.FOLDS, units)
        if folds < 2:
            return []
        sides = KFold(folds, shuffle=True, random_state=seed).split(np.zeros(units))
        return [tuple(np.flatnonzero(np.isin(number, side)) for side in pair) for pair in sides]
    known, count = np.unique(y), _holders(y, number)
    # With all images of their groups, of whatever class.
    held = np.isin(number, number[np.isin(y, known[count == 1])])
    rest, always = np.flatnonzero(~held), np.flatnonzero(held)
    if len(rest) == 0:
        return []
    folds = min(rules.FOLDS, _holders(y[rest], number[rest]).min())
    if folds < 2:
        return []
    if groups is None:
        made = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rest, y[rest])
    else:
        kind = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        made = kind.split(rest, y[rest], number[rest])
    pairs = [(np.concatenate([rest[i], always]), rest[o]) for i, o in made if len(o)]
    # Groups of several classes can lie so that a fold would be solved without one of them.
    whole = all(len(np.unique(y[inside])) == len(known) for inside, _ in pairs)
    return pairs if whole else []


def _holders(y: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return in how many groups each class is."""
    return np.array([len(np.unique(number[y == label])) for label in np.unique(y)])
