"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3)."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from tlkit.commands.asked import in_keras_words, spec_of
from tlkit.commands.earlier import before
from tlkit.commands.host import as_guest
from tlkit.commands.plan import plan_of
from tlkit.commands.setup import open_backbone, set_up
from tlkit.compute.setup import machine, set_environment
from tlkit.data.feed.dataset import load_dataset
from tlkit.errors import SpecError, TrainingError
from tlkit.features.batches import FeatureBatches, computed
from tlkit.features.cut import cut_of, split_at
from tlkit.places import check_png
from tlkit.planning.freezing import apply_plan
from tlkit.planning.phases import Phase
from tlkit.progress import Advance, Progress, as_progress
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.drawing import save_figure
from tlkit.training import smoothing
from tlkit.training.schedule import make_optimizer, peak_rate
from tlkit.training.session import Session
from tlkit.training.trainer import Trainer

LOWEST, HIGHEST = 1e-6, 1.0
"""Rates at which the test begins and ends."""

STEPS = 100

SMOOTHING = 0.9
"""Weight of the past in the smoothed loss, an exponential mean with the bias of its start
corrected (Kingma & Ba 2015, section 3)."""

EXPLODED = 4.0
"""The test ends when the smoothed loss is so many times its lowest (fastai, `lr_find`)."""

QUIET_SHARE = 0.2
"""Share of the steps, the first, whose losses tell how much batches differ by themselves."""

MARGIN = 10.0
"""The suggestion is the highest harmless rate divided by this: a range test sees each rate for
one step, a run for thousands (fastai's rule takes the same tenth of the lowest loss's rate)."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test gave.

    Attributes:
        rates, losses, smoothed: of each step, in order; fewer than asked for if it exploded.
        suggestion: the rate to take.
        phase: the phase that it is for, and its optimizer.
        planned: the rate that `train` would take by its rule.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    phase: str
    optimizer: str
    planned: float

    def to_json(self) -> dict[str, Any]:
        """Return what `tlkit lr-find --json` prints."""
        return dataclasses.asdict(self)


@in_keras_words
@as_guest()
def lr_find(
    data: Any = None,
    *,
    val: Any = None,
    test: Any = None,
    out: str | Path | None = None,
    steps: int = STEPS,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    progress: bool | Progress = True,
    **fields: Any,
) -> RangeTest:
    """Find a learning rate for the last phase of `tlkit.train` with the same arguments.

    The phases before it are run (the head is solved); then the rate rises exponentially from
    step to step until the loss explodes. Nothing is kept but the plot.

    Args:
        out: a PNG file for the loss curve; a drawing of an earlier call is replaced.
        steps: number of training steps.
        lowest, highest: rates at the first and the last step.
        data, val, test, progress, **fields: as for `tlkit.train`.

    Raises:
        SpecError: the plan has no fitted phase or a budget, or the steps or rates make no test.

    Example:
        found = tlkit.lr_find("flowers/", regime="medium", out="rates.png")
        found.suggestion
    """
    rates = rising(lowest, highest, steps)
    if out is not None:
        check_png(Path(out))
    spec, arrays = spec_of(data, val, test, fields, command="lr-find")
    if spec.budget is not None:
        raise SpecError(
            "budget: lr-find is for one phase, a budget has several. Allowed: budget left out, "
            f"with regime or freeze in its place. Received: {spec.budget:g}"
        )
    shown = as_progress(progress)
    set_environment(spec)
    spec, given = open_backbone(spec, arrays.get("backbone"))
    prepared = load_dataset(spec, arrays, shown, before=before(spec))
    devices = machine(spec)
    setup = set_up(prepared, given, devices)
    plan = plan_of(prepared, setup.built)
    phase = plan.phases[-1]
    if phase.method != "fit":
        raise SpecError(
            f"lr-find: {plan.regime.value} ({plan.regime.reason}) solves the head, which has no "
            "learning rate. Allowed: a run with a fitted phase, such as --regime medium"
        )
    with tempfile.TemporaryDirectory() as folder, prepared.reading.told():
        files = RunFolder(Path(folder) / "run")
        files.create(spec)
        session = setup.session(plan, files, shown)
        Trainer(session).run(dataclasses.replace(plan, phases=plan.phases[:-1]))
        suffix, batches = _start(session, phase, steps)
        with shown.bar("rates", f"{phase.name}, {phase.optimizer}", steps) as advance:
            losses = range_test(suffix, batches, rates, advance)
        shown.say("rates", f"on {devices.label}")
    smoothed = smooth(losses)
    found = RangeTest(
        tuple(rates[: len(losses)]),
        tuple(losses),
        tuple(smoothed),
        suggest(rates, losses),
        phase.name,
        phase.optimizer,
        phase.learning_rate,
    )
    if out is not None:
        draw(found, Path(out))
    return found


def _start(session: Session, phase: Phase, steps: int) -> tuple[keras.Model, Iterator]:
    """Return the compiled suffix of a phase, as `Trainer` begins it, and `steps` batches for it."""
    model, train, spec = session.model, session.train, session.spec
    apply_plan(model, phase.freeze)
    cut = cut_of(model, phase.freeze)
    with session.machine.scope():
        _, suffix = split_at(model, cut)
        suffix = smoothing.smoothed(suffix, session.task, spec.optimizer.label_smoothing)
        suffix = session.machine.share(suffix)
    epochs = range(steps)  # enough, of whatever length; each is drawn when it is reached
    if cuts := session.store.cuts(phase):
        rows = session.store.rows(cuts, train.all_views or train)
        kept = FeatureBatches(
            rows,
            session.kept_targets[0],
            spec.batch_size,
            spec.seed,
            train.balance,
            epochs,
            train.views,
        )
        batches = (kept[i] for i in range(steps))
    elif cut is not None:
        batches = computed(session.store.function(cut), train.epochs(phase.augment, epochs))
    else:
        batches = iter(train.epochs(phase.augment, epochs))
    constant = dataclasses.replace(phase, schedule="constant")
    with session.machine.scope():
        optimizer = make_optimizer(constant, spec.optimizer, suffix, 1)
        loss, compiled = session.task.loss(), session.machine.jit_compile
        suffix.compile(optimizer, loss, jit_compile=compiled)
        optimizer.build(suffix.trainable_variables)
    return suffix, batches


def rising(lowest: float, highest: float, steps: int) -> list[float]:
    """Return `steps` rates that rise exponentially from `lowest` to `highest`.

    Raises:
        SpecError: fewer than 10 steps, or the rates are no range above 0.
    """
    if steps < 10:
        raise SpecError(f"--steps: too few. Allowed: 10 or more. Received: {steps}")
    if not 0 < lowest < highest < math.inf:
        raise SpecError(
            "--lowest, --highest: no range. Allowed: 0 < lowest < highest. "
            f"Received: {lowest:g} and {highest:g}"
        )
    return [float(rate) for rate in np.geomspace(lowest, highest, steps)]


def range_test(
    model: keras.Model, batches: Iterable, rates: Sequence[float], advance: Advance | None = None
) -> list[float]:
    """Train one step at each rate until the loss explodes; then put everything back.

    Args:
        model: compiled, its optimizer without a schedule. Its weights and its optimizer's
            variables (rate, step, momenta) are afterwards what they were, to the bit.
        batches: of inputs, targets and, if any, weights, at least as many as rates.

    Returns:
        The loss of each step that was made, before its update.
    """
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    kept = [np.array(value) for value in (*model.get_weights(), *optimizer.variables)]
    weights = len(model.weights)
    # With rates by block there is an optimizer for each: the head's has the highest.
    parts, shares = [optimizer], [1.0]
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        parts = optimizer.optimizers
        shares = [float(part.learning_rate) / peak_rate(optimizer) for part in parts]
    losses: list[float] = []
    try:
        for rate, batch in zip(rates, batches, strict=False):
            for part, share in zip(parts, shares, strict=True):
                part.learning_rate = share * rate
            model.reset_metrics()  # Keras gives the mean since the last reset
            losses.append(float(np.asarray(model.train_on_batch(*batch))))
            if advance is not None:
                advance(1, note=f"rate {rate:.1e}, loss {losses[-1]:.3f}")
            smoothed = smooth(losses)
            if not math.isfinite(losses[-1]) or smoothed[-1] > EXPLODED * min(smoothed):
                break
    finally:
        model.set_weights(kept[:weights])
        for variable, value in zip(optimizer.variables, kept[weights:], strict=True):
            variable.assign(value)
        model.reset_metrics()
    return losses


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential mean of `losses`, the bias of its start corrected."""
    mean, smoothed = 0.0, []
    for i, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed.append(mean / (1 - SMOOTHING**i))
    return smoothed


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the highest rate whose smoothed loss is still as low as the lowest, by `MARGIN`.

    As low as the lowest means: within four standard deviations (two either way) of what batches
    alone make of the smoothed loss, told by the first steps, whose rates change nothing. After a
    solved head the loss hardly falls, and the very lowest point is chance; most of all among the
    first few, which are hardly smoothed yet and do not count. Simulated on flat noisy losses that
    rise from a known rate on: 88 of 90 suggestions within a factor of 2 of a tenth of that rate.

    Raises:
        TrainingError: the loss was infinite from the start.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 3:
        raise TrainingError(
            "lr-find: the loss is infinite from the first steps. Choose a lower --lowest. "
            f"Received: {rates[0]:g}"
        )
    smoothed = smooth(finite)
    quiet = finite[: max(3, round(QUIET_SHARE * len(finite)))]
    noise = float(np.std(quiet)) * math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))
    settled = min(round(1 / (1 - SMOOTHING)), len(smoothed) - 1)
    lowest = min(smoothed[settled:])
    harmless = max(i for i, loss in enumerate(smoothed) if loss <= lowest + 4 * noise)
    return float(f"{rates[harmless] / MARGIN:.2g}")


def draw(found: RangeTest, path: Path) -> None:
    """Draw the loss against the rate, smoothed and raw, with the suggestion marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="tab:gray", alpha=0.4, label="loss of each step")
    axes.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
    axes.axvline(
        found.suggestion, color="tab:red", linestyle="--", label=f"suggested: {found.suggestion:g}"
    )
    axes.set_xscale("log")
    low, high = min(found.smoothed), max(s for s in found.smoothed if math.isfinite(s))
    axes.set_ylim(max(0, low - 0.2 * (high - low)), high + 0.1 * (high - low) or 1)
    axes.set_xlabel(f"learning rate ({found.optimizer})")
    axes.set_ylabel("training loss")
    axes.set_title(f"phase {found.phase}: one step at each rate")
    axes.legend()
    save_figure(figure, path)
