"""The plan of a run on its data: phases, views, estimate; and what a person is told of it."""

from __future__ import annotations

import dataclasses
import math

from tlkit.backbones.build import Built
from tlkit.commands.estimate import BASE_BYTES, estimate, memory_warning
from tlkit.compute.memory import free_bytes, resident_bytes
from tlkit.data.feed.dataset import Prepared
from tlkit.errors import FreezeError
from tlkit.planning import rules
from tlkit.planning.make import make_plan, revised
from tlkit.planning.phases import TrainPlan
from tlkit.progress import Progress
from tlkit.run import Run
from tlkit.runfolder.record import RECORD, read_record
from tlkit.spec.checks import find_problems
from tlkit.spec.idle import find_idle
from tlkit.spec.read import make_spec
from tlkit.spec.run import RunSpec
from tlkit.tasks.registry import class_of, task_of


def plan_of(prepared: Prepared, built: Built, callbacks: bool = False) -> TrainPlan:
    """Return the plan of a run on `prepared`; `callbacks`: the user passed some."""
    spec, task = prepared.spec, class_of(prepared.spec)
    if spec.augmented_copies is None and spec.budget is None and spec.augment != "none":
        spec = prepared.viewed(task.copies(len(prepared.split.train))).spec
    if not task.solver:  # its phases are fitted
        head = spec.head.model_copy(update={"solver": "fit"})
        spec = spec.model_copy(update={"head": head})
    classes = task_of(spec, prepared.source.outputs).classes
    return make_plan(spec, built.layers, len(prepared.split.train), classes, callbacks)


def planned(
    prepared: Prepared,
    built: Built,
    progress: Progress,
    callbacks: bool = False,
    measure: bool = False,
) -> TrainPlan:
    """Return the plan with its estimate, and with the views that a budget allows."""
    plan = plan_of(prepared, built, callbacks)
    found = estimate(prepared, built, plan, measure)
    spec = prepared.spec
    if spec.budget is not None and spec.augmented_copies is None:
        low, high = found["phases"][0]["seconds"]
        choice = rules.views(spec.budget, math.sqrt(low * high))
        viewed = prepared.viewed(choice.value)
        if not find_problems(viewed.spec):  # views and mixup, say
            progress.say(
                "budget", f"{int(choice.value) - 1} augmented copies of each image: {choice.reason}"
            )
            plan = plan_of(viewed, built, callbacks)
            found = estimate(prepared, built, plan, measure)
    for line in _idle(prepared, plan, callbacks):
        progress.say("note", line)
    return dataclasses.replace(plan, estimate=found)


def plan_before(run: Run, built: Built, spec: RunSpec) -> TrainPlan:
    """Return the plan that a run was started with, by which it goes on.

    Args:
        built: the backbone, for its layers.
        spec: the run's, with what is asked for otherwise from here on.

    Raises:
        RunFolderError: plan.json is damaged, or is for another backbone.
        SpecError: what is asked for otherwise has no effect.
    """
    try:
        plan = TrainPlan.from_json(run.plan, built.layers)
    except (FreezeError, ValueError) as error:
        raise run.files.damaged("plan.json", error) from error
    kept = read_record(run.files)
    return revised(plan, make_spec(kept.spec, f"{run.folder}/{RECORD}") if kept else None, spec)


def _idle(prepared: Prepared, plan: TrainPlan, callbacks: bool) -> list[str]:
    """Return what has no effect by the plan; what the spec alone tells has been refused."""
    spec = prepared.spec
    if spec.budget is not None:
        return []
    chosen = {"regime": plan.regime.value}
    if plan.phases[-1].freeze.all_frozen:
        chosen["freeze"] = "all"
    return find_idle(spec.model_copy(update=chosen), callbacks)


def say_memory(plan: TrainPlan, batch_size: int, progress: Progress, gpu: int | None) -> None:
    """Say if the plan, by its estimate, is more than memory holds.

    Args:
        gpu: bytes of memory of the GPU that it will run on; None: it runs on the processor.
    """
    free = free_bytes()
    held = gpu + int(BASE_BYTES) if gpu else free and free + resident_bytes()
    warning = memory_warning(plan.estimate, batch_size, held)
    if warning:
        progress.say("memory", warning)


def say_plan(plan: TrainPlan, progress: Progress) -> None:
    """Print the regime and what each phase does."""
    progress.say("plan", f"{plan.regime.value} ({plan.regime.reason})")
    for phase in plan.phases:
        progress.say("", f"{phase.name}: {phase.describe()}; BatchNorm {phase.freeze.batchnorm}")
        for reason in phase.reasons:
            progress.detail("", f"  {reason}")
