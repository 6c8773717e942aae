"""What a run will take: seconds, memory and disk of each phase, by a rough stated rule.

The time of a network is a sum of two terms, multiply-adds at the speed of a matrix product and
bytes written by its layers at the speed of memory, both measured on this machine in a moment;
`--measure` replaces it by timed batches of the real network.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tlkit.backbones.build import Built
from tlkit.backbones.cost import LayerCost, layer_costs
from tlkit.compute.engines import candidates
from tlkit.data.feed.dataset import Prepared
from tlkit.features.cut import cut_of, split_at
from tlkit.features.store import kept_bytes
from tlkit.planning.freezing import FreezePlan
from tlkit.planning.phases import Phase, TrainPlan
from tlkit.tasks.pooled import attach, read_by_head
from tlkit.tasks.registry import class_of, task_of

SHARE = 0.85
"""Of the time that both terms give, what a pass forward takes. Measured on two shared CPU cores in
batches of 32: 0.68 for MobileNet 0.25 at 128, MobileNet 0.75 at 192 and ResNet50, 0.97 for
EfficientNetB0 and DenseNet121, 1.23 for MobileNetV2."""

TRAINING = 3.0
"""A training step costs as much as so many passes forward: forward, and the gradients of
activations and of weights (Kaplan et al. 2020, section 2.1)."""

ENGINE = {"keras": 1.0, "tensorflow": 0.72, "onnxruntime": 0.43, "openvino": 0.38}
"""Share of Keras's time that an engine takes for what is frozen: MobileNetV2 on two CPU cores, 107
images/s to 149, 246 and 285 (benchmarks/prefix_engines.py)."""

START_SECONDS = 5.0
"""What every run takes before and after its phases: building, converting and trying engines,
tracing the pipeline, drawing."""

PHASE_SECONDS = {"solve": 1.5, "fit": 6.0}
"""Beside images: solving; tracing the training step and saving models."""

ERROR = 1.6
"""Factor between the estimate and each end of the range that is given for it."""

BASE_BYTES = 0.6e9
"""Anonymous memory of the process before its first phase."""


@dataclass(frozen=True)
class Work:
    """What a part of a network does for an image: multiply-adds, and numbers written."""

    multiply_adds: int
    numbers: int


@dataclass(frozen=True)
class Throughput:
    """Speeds of this machine: multiply-adds and bytes a second."""

    multiply_adds: float
    bytes: float

    @classmethod
    @functools.cache
    def measure(cls) -> Throughput:
        """Time a matrix product of 1,024 and a copy of 32 MiB; a quarter of a second, once."""
        a, big = np.ones((1024, 1024), np.float32), np.ones(2**23, np.float32)
        other = np.empty_like(big)
        product = _median_seconds(lambda: a @ a)
        copied = _median_seconds(lambda: np.copyto(other, big))
        return cls(1024**3 / product, big.nbytes / copied)

    def seconds(self, work: Work) -> float:
        """Return the time of a pass forward over one image, among others of a batch."""
        product = work.multiply_adds / self.multiply_adds
        return SHARE * (product + 4 * work.numbers / self.bytes)


def _median_seconds(call: Callable[[], Any], times: int = 3) -> float:
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _written(cost: LayerCost) -> int:
    """Return how many numbers a layer writes for an image; unknown sides count as 1."""
    return math.prod(side or 1 for side in cost.shape[1:])


def work_of(network: keras.Model, freeze: FreezePlan) -> tuple[Work, Work]:
    """Return the work below and above the cut of a plan; `network` is a backbone without top, or
    with one that reads several of its maps."""
    costs, cut = layer_costs(network), cut_of(network, freeze)
    if freeze.all_frozen and not (cut and cut.tensors):
        below = set(costs)
    else:
        prefix, _ = split_at(network, cut)
        below = {layer.name for layer in prefix.layers} if prefix else set()

    def total(inside: bool) -> Work:
        chosen = [cost for name, cost in costs.items() if (name in below) == inside]
        numbers = sum(map(_written, chosen))
        return Work(sum(cost.multiply_adds for cost in chosen), numbers)

    return total(True), total(False)


def estimate(
    prepared: Prepared, built: Built, plan: TrainPlan, measure: bool = False
) -> dict[str, Any]:
    """Return what `plan` will take from an empty feature cache, all its epochs counted.

    Args:
        built: the backbone; its weights do not matter.
        measure: time the real network instead of trusting the rule; takes seconds.

    Returns:
        `{"seconds": [low, high], "memory": bytes, "disk": bytes, "measured": bool, "phases":
        [{"name", "seconds": [low, high], "memory", "memory_per_image", "disk"}]}`: memory is the
        peak of anonymous memory, of which each image of a batch takes `memory_per_image`; disk
        what the feature cache and the run folder get.
    """
    network = _network(prepared, built)
    below, above = work_of(network, plan.phases[0].freeze)
    whole = Work(below.multiply_adds + above.multiply_adds, below.numbers + above.numbers)
    machine = Throughput.measure()
    factor = _timed(network, prepared.spec.batch_size) / machine.seconds(whole) if measure else 1.0
    engine = min(ENGINE[n] for n in candidates(prepared.spec.engine, prepared.spec.deterministic))
    images = {part: len(ids) for part, ids in prepared.split.ids().items()}
    views = (plan.views - 1) * images["train"]
    # The scan has just decoded every image once, and found how long that takes here.
    decode = prepared.seconds / max(1, sum(images.values()))
    task, phases, kept = class_of(prepared.spec), [], False
    seen = images["train"] + views
    solving = machine.seconds(Work(*task.solving(seen, tuple(network.output.shape[1:]))))
    for phase in plan.phases:
        below, above = work_of(network, phase.freeze)
        passes = [factor * machine.seconds(work) for work in (below, above)]
        passes[0] *= engine
        row = _phase(phase, images, views, decode, passes, kept)
        row["seconds"] += solving if phase.method == "solve" else 0
        held, each = _memory(network, above, phase)
        row["memory"] = held + prepared.spec.batch_size * each
        row["memory_per_image"] = each
        row["disk"] = _disk(network, phase, sum(images.values()) + views, task.pools)
        kept = phase.method == "solve"  # on its way the next phase's features are kept
        phases.append(row)
    seconds = START_SECONDS + sum(row["seconds"] for row in phases) + prepared.seconds
    last = plan.phases[-1]  # what is frozen in it is computed for the test part beside the others
    test = above if last.keeps_features else whole
    seconds += images["test"] * factor * machine.seconds(test)
    files = 3 * 4 * network.count_params()  # model.keras, checkpoints/best.keras, last.keras
    for row in phases:
        row["seconds"] = _range(row["seconds"])
    return {
        "seconds": _range(seconds),
        "memory": max(row["memory"] for row in phases),
        "disk": files + sum(row["disk"] for row in phases),
        "measured": measure,
        "phases": phases,
    }


def _network(prepared: Prepared, built: Built) -> keras.Model:
    """Return the network whose work is counted: the backbone, for what a Dense layer does is
    nothing beside it; of heads that read several maps, these do as much, with the head."""
    task = task_of(prepared.spec, prepared.source.outputs)
    if not task.strides:
        return keras.Model(built.inputs, built.features)
    levels = read_by_head(task, built.features, lambda: built.pyramid)
    return attach(built.inputs, levels, task, prepared.spec.head)


def _range(seconds: float) -> list[float]:
    return [round(seconds / ERROR, 1), round(seconds * ERROR, 1)]


def _timed(network: keras.Model, batch_size: int) -> float:
    """Return the measured seconds of a pass forward over one image, in batches."""
    images = np.zeros((batch_size, *network.input_shape[1:]), np.float32)
    return _median_seconds(lambda: network.predict_on_batch(images)) / batch_size


def _phase(
    phase: Phase,
    images: dict[str, int],
    views: int,
    decode: float,
    passes: list[float],
    kept: bool,
) -> dict[str, Any]:
    """Return a phase's name and seconds.

    Args:
        views: kept beside the images as they are.
        passes: seconds of those below and above the cut.
    """
    below, above = passes
    train, val = images["train"], images["val"]
    features = (sum(images.values()) + views) * (decode + below)
    seconds = PHASE_SECONDS[phase.method]
    if phase.method == "solve":
        return {"name": phase.name, "seconds": seconds + features}
    epoch = above * (TRAINING * train + val)
    if not phase.keeps_features:
        epoch += (train + val) * (decode + below)
    elif not kept:
        seconds += features
    return {"name": phase.name, "seconds": seconds + phase.epochs * epoch}


def _memory(network: keras.Model, above: Work, phase: Phase) -> tuple[int, int]:
    """Return the peak of anonymous memory: whatever the batch, and for each image in it.

    The former is the process and weights, the latter what a batch leaves behind. Of the weights
    there are four copies (the model, the best so far, gradients, momenta) while fitting, two while
    solving; a training step keeps what each layer above the cut wrote.
    """
    weights = 4 * network.count_params() * (2 if phase.method == "solve" else 4)
    forward = 3 * max(map(_written, layer_costs(network).values()))
    held = above.numbers if phase.method == "fit" else 0
    return int(BASE_BYTES + weights), 4 * (forward + held)


def memory_warning(made: dict[str, Any], batch_size: int, free: int | None) -> str | None:
    """Return what to say of an estimate that does not fit into memory; None: it fits, or unknown.

    Args:
        made: an estimate.
        batch_size: images a step.
        free: bytes that the process may hold in all.
    """
    row = max(made["phases"], key=lambda row: row["memory"])
    if free is None or row["memory"] <= free:
        return None
    each = row["memory_per_image"]
    rest = row["memory"] - batch_size * each
    size = batch_size
    while size > 1 and rest + size * each > free:
        size //= 2
    needed, there = row["memory"] / 2**30, free / 2**30
    text = (
        f"{row['name']}: about {needed:.1f} GiB by a rule for batches of {batch_size}, there are "
        f"{there:.1f}: it may not fit. Smaller: "
    )
    if rest + size * each <= free:
        text += f"--batch-size {size}, "
    return f"{text}a smaller --image-size or backbone"


def _disk(network: keras.Model, phase: Phase, images: int, pooled: bool) -> int:
    """Return the bytes of the features that are kept for a phase.

    Args:
        pooled: whether the head begins with a pooling.
    """
    if not phase.keeps_features:
        return 0
    cut = cut_of(network, phase.freeze)
    if cut and cut.tensors:
        return kept_bytes(cut, images)
    shape = network.output.shape
    return 4 * images * math.prod(shape[-1:] if pooled else shape[1:])


def compare_estimate(made: dict[str, Any], took: float) -> dict[str, Any]:
    """Return what `metrics.json` says of an estimate: the range, the time taken, their ratio."""
    low, high = made["seconds"]
    ratio = took / math.sqrt(low * high)
    return {"seconds": [low, high], "took": took, "ratio": round(ratio, 3)}
