"""A backbone's frozen features, judged by the heads that they carry."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlkit.commands.plan import plan_of
from tlkit.commands.setup import Setup
from tlkit.compute.engines import candidates
from tlkit.data.feed.examples import Examples
from tlkit.features.cache import features_folder
from tlkit.features.store import FeatureStore
from tlkit.planning import rules
from tlkit.planning.freezing import apply_plan
from tlkit.planning.phases import Phase
from tlkit.progress import Progress
from tlkit.runfolder.folder import RunFolder
from tlkit.solver.l2_selection import cross_validated, selection_of, solve_head
from tlkit.solver.logme import log_maximum_evidence
from tlkit.tasks.pooled import PREDICTIONS
from tlkit.training.timing import Deadline
from tlkit.training.trainer import Trainer


@dataclass(frozen=True)
class Probe:
    """What frozen features give.

    Attributes:
        metric: of a head solved on the training part, on the validation part.
        validated: what ranks by it: the task's score of loss and metric.
        folded: the metric over folds of both parts; None where the validation part is large enough
            to rank by itself, or a class too small for folds.
        score: what ranks, by the folds if there are some.
        logme: logarithm of the maximum evidence per example, of the training features.
        kept: whether the features that fine-tuning begins with were kept on the way.
    """

    metric: float
    validated: tuple[float, ...]
    folded: float | None
    score: tuple[float, ...]
    logme: float | None
    kept: bool


def probe(setup: Setup, whole: Examples, tuned: Phase, progress: Progress) -> Probe:
    """Solve the head on frozen features, as the small regime does, and measure it.

    Args:
        whole: the images of the training and the validation part.
        tuned: the fine-tuning that may follow.
    """
    prepared, task, model = setup.prepared, setup.task, setup.model
    spec = prepared.spec
    solved = spec.head.model_copy(update={"solver": "lbfgs"})
    spec = spec.model_copy(update={"freeze": "all", "epochs": None, "head": solved})
    head = plan_of(dataclasses.replace(prepared, spec=spec), setup.built).phases[0]
    apply_plan(model, head.freeze)
    train, val = prepared.training(task), prepared.examples("val", task.encode)
    limit = int(spec.cache_size * 2**30)
    names = candidates(spec.engine, spec.deterministic)
    store = FeatureStore(model, features_folder(), limit, whole, progress, names)
    cuts = store.cuts(head, [tuned])
    x = store.rows(cuts, train.all_views).take()
    val_x = store.rows(cuts, val).take()

    how = selection_of(spec, task, train, val, spec.head.refit)
    chosen = solve_head(x, train.targets, val_x, val.targets, task, how)
    solution, delivered = chosen.solution, chosen.delivered
    model.get_layer(PREDICTIONS).set_weights([delivered.kernel, delivered.bias])
    best = next(step for step in solution.path if step.l2 == solution.l2)
    validated = task.score(best.val_loss, best.val_metric)
    first, folded = x[: len(train)], None
    if len(val) < rules.RANKED_BY_FOLDS and not (folded := chosen.folded):
        both = np.concatenate([first, val_x]), np.concatenate([train.targets, val.targets])
        folded = cross_validated(*both, task, how)
    return Probe(
        best.val_metric,
        validated,
        folded.metric if folded else None,
        task.score(folded.loss, folded.metric) if folded else validated,
        log_maximum_evidence(first, task.scaled(train.targets)),
        len(cuts) > 1,
    )


EPOCHS = 8
"""Epochs for which a head is fitted that cannot be solved: enough to rank backbones by, of the 50
that a run has at most."""


def fit_head(
    setup: Setup,
    timed: Callable[[Examples], Examples],
    deadline: float,
    progress: Progress,
) -> Probe:
    """Fit the head on kept features of the frozen backbone for `EPOCHS`, and measure it.

    Args:
        timed: returns a part whose images end with the time.
        deadline: the `time.monotonic()` at which fitting ends, in the middle of an epoch if need
            be.
    """
    prepared, task = setup.prepared, setup.task
    spec = prepared.spec
    epochs = min(EPOCHS, spec.epochs or EPOCHS)
    spec = spec.model_copy(update={"freeze": "all", "epochs": epochs})
    plan = plan_of(dataclasses.replace(prepared, spec=spec), setup.built)
    with tempfile.TemporaryDirectory() as folder:
        files = RunFolder(Path(folder) / "run")
        files.create(spec)
        watch = [Deadline(deadline)]
        session = setup.session(plan, files, progress, watch, timed=timed)
        Trainer(session).run(plan)
        best = session.checkpoints.best
    loss, metric = best["loss"], best[task.metric]
    score = task.score(loss, metric)
    return Probe(metric, score, None, score, None, False)
