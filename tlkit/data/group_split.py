"""Whole groups dealt to the parts of a split, so that each part gets its share of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

SWEEPS = 20
"""Bound on the passes over all groups; the cost falls with each move, and few passes have any."""

GAIN = 1e-9
"""Fall of the cost below which a move is none: rounding must not move groups to and fro."""


def deal_groups(
    groups: Sequence[Counter[str]], shares: dict[str, float], required: Collection[str]
) -> list[str]:
    """Return the part of each group: `train`, or one that is drawn.

    Each part takes the groups that bring it nearer to its share of every class, in the order in
    which they come; then groups go in and out while that brings it nearer still. Near is the sum
    over the classes of (has - wanted)^2 / total. Where each group is of one class, the share of a
    class is off by half a group at most, unless the class has too few groups to be dealt freely.

    Args:
        groups: how many images of each class are in each; their order is the draw.
        shares: of `val` and `test`, of all images.
        required: classes of which train keeps a group; then validation gets one, then test.
    """
    where = ["train"] * len(groups)
    drawn = sorted(part for part, share in shares.items() if share > 0)
    for part in drawn:  # test comes first: it leaves a group to train on, one to validate with
        kept = 2 if part == "test" and "val" in drawn else 1
        _Draw(groups, where, part, shares[part], kept, required).run()
    return where


class _Draw:
    """Draws one part out of `train`."""

    def __init__(
        self,
        groups: Sequence[Counter[str]],
        where: list[str],
        part: str,
        share: float,
        kept: int,
        required: Collection[str],
    ):
        self.groups, self.where, self.part, self.kept = groups, where, part, kept
        self.required = set(required)
        self.totals: Counter[str] = Counter()
        for group in groups:
            self.totals.update(group)
        self.wanted = {name: share * count for name, count in self.totals.items()}
        self.has: Counter[str] = Counter()
        # How many groups hold a class, of those left in train and of those drawn.
        self.left: Counter[str] = Counter(
            name for group, at in zip(groups, where, strict=True) if at == "train" for name in group
        )
        self.inside: Counter[str] = Counter()

    def run(self) -> None:
        for _ in range(SWEEPS):
            moved = [self._better(i) for i in range(len(self.groups))]
            moved += [self._fetch(name) for name in sorted(self.required)]
            if not any(moved):
                break

    def _better(self, i: int) -> bool:
        """Move a group if that brings the part nearer to what is wanted."""
        if self.where[i] == "train" and self._may_go(i) and self._gain(i, 1) > GAIN:
            return self._move(i, 1)
        if self.where[i] == self.part and self._may_return(i) and self._gain(i, -1) > GAIN:
            return self._move(i, -1)
        return False

    def _fetch(self, name: str) -> bool:
        """Take a group of a class that the part has none of, if there is one to spare."""
        if self.inside[name]:
            return False
        free = [
            i
            for i, group in enumerate(self.groups)
            if name in group and self.where[i] == "train" and self._may_go(i)
        ]
        return bool(free) and self._move(max(free, key=lambda i: self._gain(i, 1)), 1)

    def _may_go(self, i: int) -> bool:
        return all(self.left[k] > self.kept for k in self.groups[i] if k in self.required)

    def _may_return(self, i: int) -> bool:
        return all(self.inside[k] > 1 for k in self.groups[i] if k in self.required)

    def _gain(self, i: int, sign: int) -> float:
        """Return by how much the cost falls when a group comes in (1) or goes out (-1)."""
        return sum(
            n * (2 * sign * (self.wanted[k] - self.has[k]) - n) / self.totals[k]
            for k, n in self.groups[i].items()
        )

    def _move(self, i: int, sign: int) -> bool:
        self.where[i] = self.part if sign > 0 else "train"
        for name, count in self.groups[i].items():
            self.has[name] += sign * count
            self.left[name] -= sign
            self.inside[name] += sign
        return True
