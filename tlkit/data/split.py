"""Which example goes into which part: a pure function of labels, contents and seed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from tlkit.data.sources import CLASSES, Example
from tlkit.data.targets import Targets
from tlkit.errors import DataError


@dataclass(frozen=True)
class Split:
    """The examples of each part, and why others were left out of all three."""

    train: list[Example]
    val: list[Example]
    test: list[Example]
    left_out: dict[str, str]

    def ids(self) -> dict[str, list[str]]:
        """Return the ids of each part, for `scan.json`."""
        return {part: [e.id for e in group] for part, group in self.parts().items()}

    def parts(self) -> dict[str, list[Example]]:
        """Return the examples of each part, by its name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def split(
    parts: dict[str, list[Example]],
    digests: dict[str, str],
    shares: dict[str, float],
    seed: int,
    targets: Targets = CLASSES,
) -> Split:
    """Split off what is missing from the training part, class by class.

    The order in which examples come in, and the name of their folder, do not matter: they are
    drawn by a hash of seed and content. Examples of the same content stay on one side; where a
    given validation or test part repeats a training picture, the training part gives it up.

    Args:
        parts: the examples given for `train` and, where given, `val` and `test`.
        digests: content hash by example id; examples without one are unusable and dropped.
        shares: for each of `val` and `test` that is missing, its share of the training part.
        seed: other seeds give other splits.
        targets: says which examples are alike; each kind is spread evenly over the parts.

    Raises:
        DataError: a class has a single picture, or a part would be empty.
    """
    usable = {part: [e for e in group if e.id in digests] for part, group in parts.items()}
    usable, left_out = _without_repeats(usable, digests)
    targets.check_counts(parts["train"], usable["train"])
    drawn = _draw(usable["train"], digests, shares, seed, targets)
    chosen = {part: drawn.get(part, []) or usable.get(part, []) for part in ("val", "test")}
    if not chosen["val"]:
        raise DataError("validation data: no usable picture to choose the best model by")
    return Split(drawn["train"], chosen["val"], chosen["test"], left_out)


def _without_repeats(
    parts: dict[str, list[Example]], digests: dict[str, str]
) -> tuple[dict[str, list[Example]], dict[str, str]]:
    """Drop from train what stands in val or test, and from val what stands in test."""
    kept, left_out, seen = {}, {}, {}
    for part in ("test", "val", "train"):
        if part not in parts:
            continue
        kept[part] = [e for e in parts[part] if digests[e.id] not in seen]
        for example in parts[part]:
            if digests[example.id] in seen:
                left_out[example.id] = f"same content as {seen[digests[example.id]]}"
        seen |= {digests[e.id]: e.id for e in kept[part]}
    return kept, left_out


def _draw(
    examples: list[Example],
    digests: dict[str, str],
    shares: dict[str, float],
    seed: int,
    targets: Targets,
) -> dict[str, list[Example]]:
    groups = defaultdict(list)
    for example in sorted(examples, key=lambda e: e.id):
        groups[digests[example.id]].append(example)
    kinds = dict(zip((e.id for e in examples), targets.strata(examples), strict=True))
    by_kind: dict[str, list[list[Example]]] = defaultdict(list)
    drawn: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for digest in sorted(groups, key=lambda d: _rank(d, seed)):
        labels = {e.label for e in groups[digest]}
        # One picture under two labels: no truth to measure against, so it may only be trained on.
        if len(labels) > 1:
            drawn["train"] += groups[digest]
        else:
            by_kind[kinds[groups[digest][0].id]].append(groups[digest])
    for kind in sorted(by_kind):
        _deal(by_kind[kind], shares, drawn)
    return {part: sorted(group, key=lambda e: e.id) for part, group in drawn.items()}


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
