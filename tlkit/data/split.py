"""Which example goes into which part: a pure function of labels, contents, groups and seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tlkit.data import rare as rarity
from tlkit.data.example import Example
from tlkit.data.group_split import deal_groups
from tlkit.data.groups import check_parts, number_units
from tlkit.data.targets import CLASSES, Targets
from tlkit.errors import DataError


@dataclass(frozen=True)
class Split:
    """The examples of each part, and why others were left out of all three.

    Attributes:
        units: a number for each example, by its id: those of one number stay on one side.
        dropped: rare classes or labels that are no outputs.
        notes: a sentence for each thing that a person should know of the split.
    """

    train: list[Example]
    val: list[Example]
    test: list[Example]
    left_out: dict[str, str]
    units: dict[str, int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def ids(self) -> dict[str, list[str]]:
        """Return the ids of each part, for `scan.json`."""
        return {part: [e.id for e in group] for part, group in self.parts().items()}

    def parts(self) -> dict[str, list[Example]]:
        """Return the examples of each part, by its name."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True)
class Before:
    """What is kept of an earlier run that this one starts from.

    Attributes:
        run: its folder, for messages.
        parts: the part that each image was in, by content hash.
        outputs: its classes, labels or numbers, in order.
    """

    run: str
    parts: dict[str, str]
    outputs: tuple[str, ...]

    def ordered(self, outputs: tuple[str, ...]) -> tuple[str, ...]:
        """Return the outputs of new data, those of the run first and in its order.

        Raises:
            DataError: the data lack one of the run's.
        """
        if gone := [name for name in self.outputs if name not in outputs]:
            raise DataError(
                f"init {self.run}: knows {', '.join(gone)}, of which there is no image here. "
                "Allowed: data with all of its classes, such as its own images and new ones. "
                f"Received: {', '.join(outputs)}"
            )
        return (*self.outputs, *(name for name in outputs if name not in self.outputs))


USES = {"train": "trained on it", "val": "validated with it", "test": "was tested with it"}


def _as_before(
    parts: dict[str, list[Example]],
    digests: dict[str, str],
    units: dict[str, int],
    before: Before,
    shares: dict[str, float],
) -> tuple[dict[str, list[Example]], dict[str, list[Example]], dict[str, str]]:
    """Sort out what an earlier run knows: what is still to be dealt, dealt already, left out."""
    were: dict[int, set[str]] = defaultdict(set)
    for example in (e for group in parts.values() for e in group):
        if part := before.parts.get(digests[example.id]):
            were[units[example.id]].add(part)
    rest: dict[str, list[Example]] = {part: [] for part in parts}
    dealt: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    left_out = {}
    for part, example in ((part, e) for part, group in parts.items() for e in group):
        known = were[units[example.id]]
        if len(known) > 1:
            left_out[example.id] = "its group stands in several parts of the earlier run"
        elif not known or known == {part}:
            (dealt["train"] if known and part == "train" else rest[part]).append(example)
        else:
            (was,) = known
            if part == "train" and shares.get(was, 0) > 0:
                dealt[was].append(example)
            else:
                left_out[example.id] = f"the earlier run {USES[was]}"
    return rest, dealt, left_out


def split(
    parts: dict[str, list[Example]],
    digests: dict[str, str],
    shares: dict[str, float],
    seed: int,
    targets: Targets = CLASSES,
    rare: str = "error",
    before: Before | None = None,
) -> Split:
    """Split off what is missing from the training part, class by class.

    The order in which examples come in, and the name of their folder, do not matter: they are
    drawn by a hash of seed and content, groups by seed and name. Examples of the same content or
    group stay on one side; where a given validation or test part repeats a training image, the
    training part gives it up, with the rest of its group.

    Args:
        parts: the examples given for `train` and, where given, `val` and `test`.
        digests: content hash by example id; examples without one are unusable and dropped.
        shares: for each of `val` and `test` that is missing, its share of the training part.
        seed: other seeds give other splits.
        targets: says which examples are alike; each kind is spread evenly over the parts.
        rare: what becomes of classes with fewer than two images, or groups: `error`, `drop` (they
            are no outputs) or `train` (they stay in the training part).
        before: an earlier run; images that it knows stay in its parts, or are left out where those
            are given otherwise.

    Raises:
        DataError: a class is too rare, a group stands in two given parts, or a part would be empty.
    """
    usable = {part: [e for e in group if e.id in digests] for part, group in parts.items()}
    check_parts(usable)
    units = number_units([e for group in usable.values() for e in group], digests)
    grouped = any(e.group is not None for group in usable.values() for e in group)
    usable, left_out = _without_repeats(usable, digests, units)
    targets.check_counts(usable["train"])
    unit = "groups" if grouped else "images"
    few = rarity.rare_classes(
        parts["train"], usable["train"], lambda e: units[e.id] if grouped else e.id, targets
    )
    known = {name for e in parts["train"] for name in targets.names_in(e.label)}
    rarity.check_rare(few, known, rare, targets, unit)
    dropped = few if rare == "drop" else {}
    if dropped:
        usable, reasons = rarity.without(usable, dropped, targets, unit)
        left_out |= reasons
    kept: dict[str, list[Example]] = {}
    if before:
        usable, kept, known = _as_before(usable, digests, units, before, shares)
        left_out |= known
    dealt, trained = _in_order(usable["train"], digests, seed, targets)
    drawn = _draw_groups(dealt, shares, targets) if grouped and dealt else _draw(dealt, shares)
    drawn["train"] += trained
    drawn = {part: group + kept.get(part, []) for part, group in drawn.items()}
    drawn = {part: sorted(group, key=lambda e: e.id) for part, group in drawn.items()}
    chosen = {part: drawn.get(part, []) or usable.get(part, []) for part in ("val", "test")}
    if not chosen["val"]:
        raise DataError("validation data: no usable image to choose the best model by")
    notes = [rarity.rare_note(dropped, targets, unit)] if dropped else []
    unmeasured = rarity.unmeasured_note(drawn["train"], chosen["val"] + chosen["test"], targets)
    notes += [unmeasured] if unmeasured else []
    return Split(
        drawn["train"],
        chosen["val"],
        chosen["test"],
        left_out,
        units,
        tuple(dropped),
        tuple(notes),
    )


def _without_repeats(
    parts: dict[str, list[Example]], digests: dict[str, str], units: dict[str, int]
) -> tuple[dict[str, list[Example]], dict[str, str]]:
    """Drop from train what stands in val or test, and from val what stands in test."""
    kept, left_out, seen, taken = {}, {}, {}, {}
    for part in ("test", "val", "train"):
        if part not in parts:
            continue
        kept[part] = [e for e in parts[part] if units[e.id] not in taken]
        for example in parts[part]:
            if digests[example.id] in seen:
                left_out[example.id] = f"same content as {seen[digests[example.id]]}"
            elif units[example.id] in taken:
                left_out[example.id] = (
                    f"its group shares an image with that of {taken[units[example.id]]}"
                )
        seen |= {digests[e.id]: e.id for e in kept[part]}
        taken |= {units[e.id]: e.id for e in kept[part]}
    return kept, left_out


Unit = list[tuple[Example, str]]
"""Examples that stay on one side, by id, each with its kind: see `Targets.strata`."""


def _in_order(
    examples: list[Example], digests: dict[str, str], seed: int, targets: Targets
) -> tuple[list[Unit], list[Example]]:
    """Return the units in the order in which they are drawn, and examples that only train.

    These are one image under two labels: no truth to measure against; and the rest of its unit.
    """
    examples = sorted(examples, key=lambda e: e.id)
    numbers, labels = number_units(examples, digests), defaultdict(set)
    units: dict[int, Unit] = defaultdict(list)
    for example, kind in zip(examples, targets.strata(examples), strict=True):
        units[numbers[example.id]].append((example, kind))
        labels[digests[example.id]].add(example.label)
    drawn, trained = [], []
    for unit in sorted(units.values(), key=lambda u: _rank(_name(u, digests), seed)):
        if any(len(labels[digests[e.id]]) > 1 for e, _ in unit):
            trained += [e for e, _ in unit]
        else:
            drawn.append(unit)
    return drawn, trained


def _draw(units: list[Unit], shares: dict[str, float]) -> dict[str, list[Example]]:
    """Deal images that belong to no group, kind by kind; their copies go with them."""
    by_kind: dict[str, list[list[Example]]] = defaultdict(list)
    drawn: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for unit in units:
        by_kind[unit[0][1]].append([e for e, _ in unit])
    for kind in sorted(by_kind):
        _deal(by_kind[kind], shares, drawn)
    return drawn


def _draw_groups(
    units: list[Unit], shares: dict[str, float], targets: Targets
) -> dict[str, list[Example]]:
    """Deal whole groups, of several classes too."""
    drawn: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    counts = [Counter(kind for _, kind in unit) for unit in units]
    required = {kind for count in counts for kind in count}
    if targets.kind is not str and not any(targets.names_in(e.label) for u in units for e, _ in u):
        # Numbers: no bin must be in each part, but each part must have something.
        counts = [count + Counter({_ALL: count.total()}) for count in counts]
        required = {_ALL}
    for unit, part in zip(units, deal_groups(counts, shares, required), strict=True):
        drawn[part] += [e for e, _ in unit]
    return drawn


_ALL = "all"
"""Counts every image, beside the bins of numbers (three digits)."""


def _name(unit: Unit, digests: dict[str, str]) -> str:
    """Return what a unit is drawn by: a group's name, or the content of an image in none."""
    groups = [f"group {e.group}" for e, _ in unit if e.group is not None]
    return min(groups or [digests[e.id] for e, _ in unit])


def _rank(digest: str, seed: int) -> str:
    return hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=16).hexdigest()


def _deal(
    groups: list[list[Example]], shares: dict[str, float], drawn: dict[str, list[Example]]
) -> None:
    """Give one class's groups to the parts; train keeps one, and val gets one before test does."""
    total = sum(map(len, groups))
    wanted = {part: max(1, round(share * total)) for part, share in shares.items() if share > 0}
    if total < 1 + sum(wanted.values()):
        wanted = {part: 1 for part in list(wanted) if part == "val" or total > len(wanted)}
    rest = list(groups)
    for part, count in sorted(wanted.items()):
        # Test comes first: it leaves a group to train on and one to validate with.
        kept = 2 if part == "test" and "val" in wanted else 1
        taken: list[Example] = []
        for group in list(rest):
            if len(rest) > kept and len(taken) + len(group) <= count:
                taken += group
                rest.remove(group)
        if not taken and len(rest) > kept:  # copies make every group larger than the share
            taken = min(rest, key=len)
            rest.remove(taken)
        drawn[part] += taken
    drawn["train"] += [example for group in rest for example in group]
