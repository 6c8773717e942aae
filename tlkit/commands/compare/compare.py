"""Backbones compared on one's own images, within a time budget: which to take, and why."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.build import Built
from tlkit.commands.asked import in_keras_words, spec_of
from tlkit.commands.compare.candidates import Candidate, read_candidates, read_seconds
from tlkit.commands.compare.probe import fit_head, probe
from tlkit.commands.compare.result import Comparison, Entry
from tlkit.commands.estimate import TRAINING, Throughput, work_of
from tlkit.commands.host import as_guest
from tlkit.commands.plan import plan_of
from tlkit.commands.setup import Setup, open_backbone, set_up
from tlkit.compute.devices import Devices
from tlkit.compute.setup import machine, set_environment
from tlkit.data.feed.dataset import Prepared, load_dataset
from tlkit.data.feed.examples import Examples
from tlkit.errors import SpecError, WeightsError
from tlkit.evaluate.evaluator import answered_part, measured
from tlkit.evaluate.footprint import latency, saved_megabytes
from tlkit.places import check_free
from tlkit.planning.phases import Phase, TrainPlan
from tlkit.progress import Progress, as_progress
from tlkit.runfolder.folder import RunFolder
from tlkit.spec.run import RunSpec
from tlkit.tasks.task import Task
from tlkit.training.timing import Deadline
from tlkit.training.trainer import Trainer

START_SECONDS = 9.0
"""What a fine-tuning costs before its first step and after its last: building, tracing, saving.
Measured with MobileNetV2 and MobileNet on two CPU cores."""

END_SECONDS = 4.0
"""What is kept free for the result's files, beside the test part."""


@in_keras_words
@as_guest()
def compare(
    data: Any,
    backbones: str | Sequence[str],
    *,
    budget: str | float = "2m",
    out: str | Path | None = None,
    val: Any = None,
    test: Any = None,
    started: float | None = None,
    progress: bool | Progress = True,
    **fields: Any,
) -> Comparison:
    """Compare backbones on one split of `data`, by solved heads and by fine-tuning.

    Each gets a head solved on its frozen features, as in `tlkit train --regime small` (heads that
    cannot be solved are fitted, each for as many epochs: see `probe.fit_head`); then the
    better half is fine-tuned as in `--regime medium` (successive halving, Jamieson & Talwalkar
    2016, with two rungs), each with the same number of epochs: as many as there is time for.
    The validation part ranks, or, where it is small (`rules.RANKED_BY_FOLDS`), heads solved over
    folds of it and the training part, with what fine-tuning gained on the validation part on top.
    The test part is measured once, for the first in rank.

    Args:
        backbones: `NAME[:KEY=VALUE[,KEY=VALUE]...]`, several joined by commas or in a list; keys:
            image_size, alpha, weights, cut, preprocessing.
        budget: such as `90s`, `2m`, `1h`, or seconds. What does not fit is left out, and named.
        started: the `time.monotonic()` from which the budget counts; default: now.
        out: a new or empty folder for compare.json, compare.csv and pareto.png.
        data, val, test, progress, **fields: as for `tlkit.train`; with `regime="small"` nothing
            is fine-tuned, with `large` all layers are.

    Raises:
        TlkitError: bad input; one of its children, with one clear message.

    Example:
        found = tlkit.compare("flowers/", "MobileNetV2,MobileNet:alpha=0.25,image_size=128")
        found.best.label
    """
    start = time.monotonic() if started is None else started
    if out is not None:
        check_free(Path(out))
    limit = read_seconds(budget)
    candidates = read_candidates(backbones)
    spec, arrays = spec_of(data, val, test, fields, command="compare")
    given = spec.model_dump(exclude_unset=True, exclude={"out"})
    specs = [candidate.spec(given) for candidate in candidates]
    if spec.head.hidden:
        raise SpecError(
            f"head.hidden: compare solves linear heads. Allowed: none. Received: {spec.head.hidden}"
        )
    shown = as_progress(progress)
    set_environment(spec)
    prepared = load_dataset(specs[0], arrays, shown)
    comparer = _Comparer(prepared, start + limit, shown, machine(spec))
    with prepared.reading.told():
        entries = [comparer.probe(*pair) for pair in zip(candidates, specs, strict=True)]
        if all(entry.left_out for entry in entries):
            raise SpecError(f"--backbones: none could be measured: {entries[0].left_out}")
        comparer.finetune(entries, dict(zip([c.label for c in candidates], specs, strict=True)))
        tested = comparer.test()
    result = Comparison(
        prepared.source.name,
        comparer.lead.task.metric,
        len(prepared.split.val),
        len(prepared.split.train),
        entries,
        tested,
        comparer.notes,
        limit,
        time.monotonic() - start,
        comparer.lead.task.headline(tested) if tested else "",
    )
    if out is not None:
        result.write(Path(out))
    return result


class _OutOfTime(Exception):
    """The budget ended in the middle of a backbone's features."""


@dataclass(frozen=True)
class _Lead:
    """The best model so far; the others are not held in memory."""

    score: tuple[float, ...]
    prepared: Prepared
    task: Task
    model: keras.Model


class _Comparer:
    """Measures one backbone after the other on the split of `prepared`, up to `deadline`."""

    def __init__(self, prepared: Prepared, deadline: float, progress: Progress, devices: Devices):
        self.prepared, self.deadline, self.progress = prepared, deadline, progress
        self.devices = devices
        self.lead: _Lead | None = None
        self.notes: list[str] = []
        self._epoch_seconds: dict[str, float] = {}
        self._longest: dict[str, int] = {}
        self._validated: dict[str, tuple[float, ...]] = {}
        self._image_seconds = 0.0
        self._machine = Throughput.measure()

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def probe(self, candidate: Candidate, spec: RunSpec) -> Entry:
        """Return what a backbone gives with a head solved on its frozen features."""
        entry = Entry(candidate.label, candidate.options)
        start = time.monotonic()
        try:
            if self.left <= 0:
                raise _OutOfTime
            self._probe(entry, self._set_up(spec))
        except _OutOfTime:
            entry.left_out = "the budget was spent before its features were computed"
        except WeightsError as error:
            entry.left_out = str(error)
        entry.seconds = round(time.monotonic() - start, 2)
        self._say(entry)
        return entry

    def _say(self, entry: Entry) -> None:
        if entry.left_out:
            self.progress.say("left out", f"{entry.label}: {entry.left_out}")
            return
        metric, validated = self.lead.task.metric, f"on the validation part {entry.probe:.3f}"
        found = validated if entry.folded is None else f"by folds {entry.folded:.3f}, {validated}"
        values = f"{metric} {found}"
        values += "" if entry.logme is None else f", LogME {entry.logme:.3f}"
        size = f"{entry.latency:.1f} ms an image, {entry.megabytes:.1f} MB"
        self.progress.say("probe", f"{entry.label}: {values}, {size}; {entry.seconds:.0f} s")

    def _set_up(self, spec: RunSpec) -> Setup:
        same = {name: getattr(self.prepared.spec, name) for name in ("data", "val", "test", "bits")}
        keras.utils.set_random_seed(spec.seed)  # as a run of its own begins
        same |= self.prepared.source.settled
        spec, given = open_backbone(spec.model_copy(update=same))
        prepared = dataclasses.replace(self.prepared, spec=spec)
        return set_up(prepared, given, self.devices)

    def _probe(self, entry: Entry, setup: Setup) -> None:
        prepared, task, built, model = setup.prepared, setup.task, setup.built, setup.model
        whole = self._timed(prepared.whole(task.encode, test=False))
        tuned = _tuned_plan(prepared, built).phases[-1]
        if task.solver and not task.strides:
            found = probe(setup, whole, tuned, self.progress)
        else:
            found = fit_head(setup, self._timed, self.deadline - END_SECONDS, self.progress)
        entry.probe, entry.folded = found.metric, found.folded
        entry.score, self._validated[entry.label] = found.score, found.validated
        entry.logme = found.logme
        entry.parameters = model.count_params()
        entry.latency = latency(model)
        entry.megabytes = saved_megabytes(model)
        self._offer(entry, setup)
        network = keras.Model(built.inputs, built.features) if task.solver else model
        split = prepared.split
        self._foresee(entry, tuned, network, found.kept, (len(split.train), len(split.val)))

    def _foresee(
        self, entry: Entry, phase: Phase, network: keras.Model, kept: bool, images: tuple
    ) -> None:
        """Note what an epoch of fine-tuning will take, and how many a full run has at most."""
        below, above = (self._machine.seconds(work) for work in work_of(network, phase.freeze))
        train, val = images
        computed = 0.0 if kept else below * (train + val)
        self._epoch_seconds[entry.label] = above * (TRAINING * train + val) + computed
        self._longest[entry.label] = 0 if phase.freeze.all_frozen else phase.epochs
        self._image_seconds = max(self._image_seconds, entry.latency / 1000)

    def _timed(self, part: Examples) -> Examples:
        """Return `part` with images that end with the budget."""

        def images(chosen: Sequence[int]):
            for batch in part.batches(chosen):
                if self.left <= 0:
                    raise _OutOfTime
                yield batch

        return dataclasses.replace(part, batches=images)

    @property
    def _free(self) -> float:
        """Seconds for fine-tuning: those left, less the test and the result's files."""
        return self.left - END_SECONDS - len(self.prepared.split.test) * self._image_seconds

    def _epochs(self, labels: Sequence[str]) -> int:
        """Return the number of epochs for which there is time, the same for each of `labels`."""
        free = self._free - START_SECONDS * len(labels)
        fits = int(free / sum(self._epoch_seconds[label] for label in labels))
        return min(fits, *(self._longest[label] for label in labels))

    def _offer(self, entry: Entry, setup: Setup) -> None:
        if self.lead is None or entry.score > self.lead.score:
            self.lead = _Lead(entry.score, setup.prepared, setup.task, setup.model)

    def finetune(self, entries: Sequence[Entry], specs: dict[str, RunSpec]) -> None:
        """Fine-tune the better half, with as many epochs as there is time for."""
        done = sorted((e for e in entries if not e.left_out), key=lambda e: e.score, reverse=True)
        finalists = [e for e in done[: math.ceil(len(done) / 2)] if self._longest[e.label]]
        while finalists:
            epochs = self._epochs([entry.label for entry in finalists])
            if epochs >= 1:
                break
            self._leave(finalists.pop(), "the budget left no time for it")
        for number, entry in enumerate(finalists):
            share = self._free / (len(finalists) - number)
            if share < START_SECONDS:
                self._leave(entry, "the budget was spent before it")
                continue
            start = time.monotonic()
            # A third of the fixed cost comes after the last step.
            until = start + share - START_SECONDS / 3
            self._finetune(entry, specs[entry.label], epochs, until)
            entry.seconds = round(entry.seconds + time.monotonic() - start, 2)

    def _leave(self, entry: Entry, why: str) -> None:
        self._note(f"{entry.label} was not fine-tuned: {why}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.progress.say("left out", text)

    def _finetune(self, entry: Entry, spec: RunSpec, epochs: int, deadline: float) -> None:
        setup = self._set_up(spec)
        prepared, task = setup.prepared, setup.task
        plan = _tuned_plan(prepared, setup.built, epochs)
        watch = Deadline(deadline)
        with tempfile.TemporaryDirectory() as folder:
            files = RunFolder(Path(folder) / "run")
            files.create(prepared.spec)
            session = setup.session(plan, files, self.progress, [watch])
            Trainer(session).run(plan)
            best = session.checkpoints.best
            loss, metric = best["loss"], best[task.metric]
            name = plan.phases[-1].name
            entry.epochs = sum(row["phase"] == name for row in files.read_log())
        entry.finetuned, reached = metric, task.score(loss, metric)
        before = self._validated[entry.label]
        if not task.solver and reached < before:  # its own head was fitted for fewer epochs
            entry.finetuned, reached = entry.probe, before
        entry.score = tuple(
            own + now - then for own, now, then in zip(entry.score, reached, before, strict=True)
        )
        if watch.stopped:
            self._note(f"{entry.label}: fine-tuning was cut short by the budget")
        self._offer(entry, setup)

    def test(self) -> dict[str, Any] | None:
        """Return the metrics of the best model on the test part; it is not used for the ranking."""
        lead = self.lead
        if not lead.prepared.split.test:
            return None
        part = lead.prepared.examples("test", lead.task.encode)
        consume = partial(measured, lead.task, lead.prepared.split.test, part.targets)
        return answered_part(lead.model, part, self.progress, "test", consume).result()


def _tuned_plan(prepared: Prepared, built: Built, epochs: int | None = None) -> TrainPlan:
    """Return the plan of a fine-tuning: that of the medium regime unless one is asked for."""
    spec = prepared.spec
    changes = {"regime": "medium"} if spec.regime == "auto" else {}
    changes |= {"epochs": epochs} if epochs else {}
    return plan_of(dataclasses.replace(prepared, spec=spec.model_copy(update=changes)), built)
