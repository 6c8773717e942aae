"""A phase whose head is solved: weights of its layers, and the path that led to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tlkit.compute.engines import inference
from tlkit.features.rows import Rows
from tlkit.planning.phases import HEAD
from tlkit.solver.l2_selection import selection_of, solve_head
from tlkit.solver.located import STAGES, solve_located
from tlkit.solver.solve import Step
from tlkit.tasks.calibration import Calibration
from tlkit.tasks.localisation import map_scale
from tlkit.tasks.pooled import PREDICTIONS
from tlkit.tasks.task import BOX, HEAD_INPUT
from tlkit.training.session import Session


@dataclass(frozen=True)
class Solved:
    """A solved head.

    Attributes:
        weights: of each layer, by its name.
        path: the strengths tried.
        l2: the one chosen, of `path`.
        reason: how, for the person who watches.
        calibration: by the folds that chose it, if such did.
    """

    weights: dict[str, list[np.ndarray]]
    path: tuple[Step, ...]
    l2: float
    reason: str
    calibration: Calibration | None = None


def solved_head(session: Session, train: Rows, val: Rows, refit: bool) -> Solved:
    """Solve the head of a session's model on features of the training and validation part."""
    return SOLVERS.get(session.task.solver, _pooled)(session, train, val, refit)


def _pooled(session: Session, train: Rows, val: Rows, refit: bool) -> Solved:
    own, other, task = session.train, session.val, session.task
    how = selection_of(session.spec, task, own, other, refit)
    chosen = solve_head(train, own.targets, val, other.targets, task, how)
    kept = chosen.delivered
    weights = {PREDICTIONS: [kept.kernel, kept.bias]}
    # Of a refit the path is that from before: the refit has seen the validation part.
    calibration = chosen.folded.calibration if chosen.folded else None
    return Solved(weights, chosen.solution.path, chosen.solution.l2, chosen.reason, calibration)


def _located(session: Session, train: Rows, val: Rows, refit: bool) -> Solved:
    own, other, task, model = session.train, session.val, session.task, session.model
    how = selection_of(session.spec, task.classifier, own, other, refit)
    maps, features = model.get_layer(HEAD_INPUT).output, model.get_layer(PREDICTIONS).input
    pool = inference(keras.Model(maps, features), len(own))
    with session.progress.bar(HEAD, "solved", len(STAGES)) as advance:

        def stage(name: str) -> None:
            advance(int(name != STAGES[0]), note=name)

        found = solve_located(
            train,
            (own.all_views or own).targets[:],
            val,
            other.targets[:],
            task,
            lambda x: np.asarray(pool(x), np.float32),
            how,
            own.groups,
            stage,
        )
        advance(note="")
    kernel, bias = found.box
    box = [kernel / map_scale(len(kernel)), bias]
    weights = {PREDICTIONS: list(found.named), BOX: box}
    return Solved(weights, found.path, found.l2, found.reason)


SOLVERS: dict[str, Callable[[Session, Any, Any, bool], Solved]] = {"located": _located}
"""What solves heads that are more than one layer on pooled features, by `Task.solver`."""
