"""The label audit: what heads say of images that they were solved without, on kept features."""

from __future__ import annotations

import numpy as np

from tlkit.commands.interruption import check_given, check_unchanged
from tlkit.commands.setup import open_backbone, set_up
from tlkit.compute.engines import candidates
from tlkit.compute.setup import machine, set_environment
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.feed.examples import joint_groups
from tlkit.errors import DataError
from tlkit.features.cache import features_folder
from tlkit.features.cut import cut_of
from tlkit.features.store import FeatureStore
from tlkit.planning.freezing import apply_plan, plan_freeze
from tlkit.progress import Progress
from tlkit.reporting.label_audit import Audited, label_text
from tlkit.run import Run
from tlkit.solver.l2_selection import Selection, out_of_sample
from tlkit.tasks.registry import check_solvable

PARTS = ("train", "val", "test")


def audit(run: Run, progress: Progress) -> list[Audited]:
    """Return all images of a run, the least plausible label first.

    Each is answered by a linear head on pooled features of the backbone as it was before training,
    solved on the other folds of all parts together: what was trained on a wrong label would repeat
    it. Where the run's first phase solved a head, those features are kept.

    Raises:
        SpecError: the run's task has no head that is solved.
        RunFolderError: the run was trained on arrays, or its images have changed.
        DataError: too few images of a class for folds.
    """
    check_solvable(run.spec, "report --audit")
    check_given(run)
    set_environment(run.spec)
    spec, given = open_backbone(run.spec.model_copy(update={"augmented_copies": 0}))
    prepared = load_dataset(spec, {}, progress)
    check_unchanged(prepared, run, "it was trained")
    setup = set_up(prepared, given, machine(spec))
    task, model = setup.task, setup.model
    whole = prepared.whole(task.encode)
    names = candidates(run.files.read_engine() or spec.engine, spec.deterministic)
    limit = int(spec.cache_size * 2**30)
    store = FeatureStore(model, features_folder(), limit, whole, progress, names)
    frozen = plan_freeze(setup.built.layers, "all", run.plan["phases"][0]["batchnorm"])
    apply_plan(model, frozen)  # as training did: kept features are known by it
    with prepared.reading.told():
        cut = cut_of(model, frozen)
        x = store.rows([cut], whole).take()
    y = whole.targets[: len(whole)]

    def weigh(targets: np.ndarray) -> np.ndarray | None:
        return task.balance(targets, spec.balance).whole

    how = Selection(weigh, seed=spec.seed, groups=joint_groups(whole))
    raw = out_of_sample(x, y, task, how)
    if raw is None:
        raise DataError(
            f"run {run.folder}: too few images of a class for folds, so that no label can be held "
            "against heads that were solved without its image. Allowed: two of each class"
        )
    rows = [
        Audited(e.id, part, label_text(e.label), task.suggestion(own), float(quality))
        for (part, e), own, quality in zip(
            ((part, e) for part in PARTS for e in getattr(prepared.split, part)),
            raw,
            task.label_quality(raw, y),
            strict=True,
        )
        if np.isfinite(own).all()
    ]
    return sorted(rows, key=lambda row: row.quality)
