"""A phase whose head is solved: weights of its layers, and the path that led to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tlkit.backbones.pyramid import STRIDES
from tlkit.compute.engines import inference
from tlkit.features.rows import Rows
from tlkit.planning.phases import HEAD
from tlkit.solver.l2_selection import selection_of, solve_head
from tlkit.solver.located import STAGES, solve_located
from tlkit.solver.regions import STEPS, recall, solve_regions
from tlkit.solver.solve import Step
from tlkit.solver.window_samples import CHUNK, Views
from tlkit.tasks import regions
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


def _regions(session: Session, train: Any, val: Any, refit: bool) -> Solved:
    task, model = session.task, session.model
    strides = [stride for stride in STRIDES if _has(model, regions.layer_name(1, stride))]
    inputs = [model.get_layer(regions.layer_name(1, stride)).input for stride in strides]
    # Not `engines.inference`: it may freeze the weights, which change.
    judges = {
        stage: keras.Model(inputs, model.get_layer(regions.stage_name(stage)).output)
        for stage in range(1, regions.STAGES + 1)
    }

    def judge(stage: int, maps: tuple[np.ndarray, ...]) -> np.ndarray:
        count = len(maps[0])
        whole = np.arange(CHUNK) % count  # batches of one size: each other is traced anew
        return judges[stage].predict_on_batch([own[whole] for own in maps])[:count]

    def install(stage: int, weights: np.ndarray) -> None:
        parts = regions.layer_weights(weights, [x.shape[-1] for x in inputs])
        for stride, part in zip(strides, parts, strict=True):
            model.get_layer(regions.layer_name(stage, stride)).set_weights(part)

    def views(rows: Any, targets: Any) -> Views:
        def maps(chosen: Any) -> tuple[np.ndarray, ...]:
            taken = rows.take(chosen)
            return taken if isinstance(taken, tuple) else (taken,)

        return Views(maps, targets[:])

    own = session.kept_targets
    share = recall(task, session.train.targets[:])
    session.progress.say(
        HEAD,
        f"{len(task.windows):,} windows of {len(task.shapes)} shapes; {share:.1%} of the training "
        "objects have one that overlaps by half (recall at IoU 0.5)",
    )
    with session.progress.bar(HEAD, "solved", STEPS) as advance:
        found = solve_regions(
            views(train, own[0]),
            views(val, own[1]),
            task,
            judge,
            install,
            session.spec.seed,
            lambda name: advance(note=name),
        )
        advance(0, note="")
    names = [regions.layer_name(s, t) for s in range(1, regions.STAGES + 1) for t in strides]
    weights = {name: model.get_layer(name).get_weights() for name in names}
    return Solved(weights, found.path, found.l2, found.reason)


def _has(model: keras.Model, name: str) -> bool:
    return any(layer.name == name for layer in model.layers)


SOLVERS: dict[str, Callable[[Session, Any, Any, bool], Solved]] = {
    "located": _located,
    "regions": _regions,
}
"""What solves heads that are more than one layer on pooled features, by `Task.solver`."""
