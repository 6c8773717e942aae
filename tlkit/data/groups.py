"""Which images belong together: those of one patient, scene or clip, and those of equal content."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlkit.errors import DataError, printable

if TYPE_CHECKING:
    from tlkit.data.example import Example

PREPARED = "as prepared"
"""What stands in the place of an option where `tlkit data prepare` wrote the groups."""

SHOWN = 3
"""Examples that a message names."""


def grouped_by(pattern: str, examples: Sequence[Example]) -> list[Example]:
    """Return the examples with the groups that a regular expression finds in their ids.

    A group's name is what the pattern's first capture group holds, or the whole match; an example
    without a match, or with an empty name, belongs to none.

    Raises:
        DataError: they have groups already.
    """
    if any(example.group is not None for example in examples):
        raise DataError(
            "group: the data set was prepared with its groups. Allowed: group left out. "
            f"Received: {pattern!r}"
        )
    search = re.compile(pattern)
    first = min(search.groups, 1)

    def name(example: Example) -> str | None:
        found = search.search(example.id)
        return (found and found[first]) or None

    return [replace(example, group=name(example)) for example in examples]


def check_groups(
    name: str, examples: Sequence[Example], column: str | None, pattern: str | None
) -> tuple[str | None, list[str]]:
    """Return the option that groups the examples, or None, and a note on those in no group.

    Args:
        name: of the data set.
        column, pattern: `table.group` and `group` of the spec.

    Raises:
        DataError: the option groups nothing, or all of them into one group.
    """
    alone = [example.id for example in examples if example.group is None]
    option = f"table.group={column}" if column else f"group={pattern}" if pattern else PREPARED
    if len(alone) == len(examples):
        if column:
            raise DataError(
                f"table.group: puts no image of {name} into a group. Allowed: a column of a CSV "
                f"file in which images that belong together have the same value. Received: {column}"
            )
        if pattern:
            raise DataError(
                f"group: matches no image of {name}. Allowed: a regular expression that is found "
                f"in an image's id, such as {_named(alone)}. Received: {pattern!r}"
            )
        return None, []
    groups = {example.group for example in examples}
    if len(groups) == 1:
        raise DataError(
            f"{option}: all {len(examples):,} images of {name} are one group, {groups.pop()!r}, "
            "which no split can part. Allowed: two groups or more"
        )
    notes = []
    if len(groups - {None}) == len(examples) - len(alone):
        notes.append(f"{option}: no two images are in one group; it changes nothing")
    if not alone or option == PREPARED:
        return option, notes
    why = f"have no {column}" if column else f"match no {option}"
    return option, [*notes, f"{len(alone):,} images {why}; each stands alone: {_named(alone)}"]


def number_units(examples: Iterable[Example], digests: dict[str, str]) -> dict[str, int]:
    """Number what must stay on one side of a split, by example id.

    Examples of one group are one unit, and so are those of equal content and whatever hangs
    together by a chain of both. The order in which they come in does not matter.

    Args:
        digests: content hash of each example.
    """
    above: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while (parent := above.setdefault(node, node)) != node:
            above[node] = above[parent]
            node = parent
        return node

    examples = sorted(examples, key=lambda e: e.id)
    for example in examples:
        if example.group is not None:
            above[root(("group", example.group))] = root(digests[example.id])
    numbers: dict[Hashable, int] = {}
    return {e.id: numbers.setdefault(root(digests[e.id]), len(numbers)) for e in examples}


def crossing(parts: dict[str, list[Example]]) -> dict[str, dict[str, str]]:
    """Return the groups with images in two parts: for each a part's name and an id in it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for part, examples in parts.items():
        for example in examples:
            if example.group is not None:
                found[example.group].setdefault(part, example.id)
    return {group: where for group, where in sorted(found.items()) if len(where) > 1}


def check_parts(parts: dict[str, list[Example]]) -> None:
    """Raise a DataError if a group stands in two of the parts that were given.

    A person said both, the parts and the groups; neither can be kept without breaking the other.
    """
    found = crossing(parts)
    if found:
        group, where = next(iter(found.items()))
        places = " and ".join(f"{id_} in {part}" for part, id_ in where.items())
        raise DataError(
            f"groups: {len(found):,} of them stand in two of the parts that were given, such as "
            f"{printable(group)!r} with {places}; a model would be measured on what it was trained "
            "on. Allowed: each group in one part, or parts split off by tlkit, or no groups. "
            f"Received: {', '.join(repr(printable(name)) for name in list(found)[:SHOWN])}"
            + (", ..." if len(found) > SHOWN else "")
        )


def groups_json(
    parts: dict[str, list[Example]], usable: dict[str, Any], option: str | None
) -> dict[str, Any] | None:
    """Return what `scan.json` says of groups; None without any.

    Returns:
        `option`, which made them; `count`, an image in no group counted as one; `smallest`,
        `largest`: images in one; `alone`: images in none; `of_several_labels`: how many hold
        images of different labels; `across_parts`: the names of those in two of the parts given.
    """
    examples = [e for part in parts.values() for e in part if e.id in usable]
    if option is None or not examples:
        return None
    sizes = Counter(e.group if e.group is not None else (e.id,) for e in examples)
    labels = defaultdict(set)
    for example in examples:
        labels[example.group].add(example.label)
    labels.pop(None, None)
    return {
        "option": option,
        "count": len(sizes),
        "smallest": min(sizes.values()),
        "largest": max(sizes.values()),
        "alone": sum(example.group is None for example in examples),
        "of_several_labels": sum(len(found) > 1 for found in labels.values()),
        "across_parts": list(crossing(parts)),
    }


def groups_line(found: dict[str, Any]) -> str:
    """Return what a person is told of `groups_json`."""
    low, high = found["smallest"], found["largest"]
    sizes = f"{low}" if low == high else f"{low} to {high}"
    several = found["of_several_labels"]
    mixed = f", {several:,} of them with several labels" if several else ""
    images = "image" if high == 1 else "images"
    return f"{found['count']:,} groups of {sizes} {images} ({found['option']}){mixed}"


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
