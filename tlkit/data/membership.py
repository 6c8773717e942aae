"""Which images a run has in which part, with content and label: kept, and compared later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlkit.data.annotations import Annotations
from tlkit.data.example import Example, FileLabel
from tlkit.errors import DataError
from tlkit.progress import Progress

SHOWN = 3
"""Images that a message names for each kind of change."""

Row = list[Any]
"""Id, content hash and label of an image; a label of several is a list, of a file its hash."""

Members = dict[str, list[Row]]
"""The rows of each part, in order."""

Known = dict[str, tuple[str, str]]
"""By id, a run's part and its own id of the image of the same content."""


def members(parts: Mapping[str, Iterable[Example]], digests: Mapping[str, str]) -> Members:
    """Return what `data.json` holds, as it comes back from JSON: some 80 bytes an image.

    Args:
        digests: content hash by id; an image without one gets an empty one, which no image has.
    """
    return {
        part: [[e.id, digests.get(e.id, ""), _plain(e.label)] for e in group]
        for part, group in parts.items()
    }


def as_text(rows: Members) -> str:
    """Return `rows` as JSON with a line for each image."""
    parts = (
        f"{json.dumps(part)}: [{','.join(f'{chr(10)}{_line(row)}' for row in group)}]"
        for part, group in rows.items()
    )
    return "{" + ",\n".join(parts) + "}\n"


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _plain(label: Any) -> Any:
    if isinstance(label, FileLabel):
        return label.digest
    if isinstance(label, Annotations):
        return label.plain()
    return list(label) if isinstance(label, tuple) else label


def changes(before: Members, now: Members) -> list[str]:
    """Return what is no longer as it was, a phrase for each kind of change; nothing if all is.

    Another order within a part counts: it is the order of training and of predictions.csv.
    """
    old, new = _by_id(before), _by_id(now)
    both = [id_ for id_ in old if id_ in new]
    kinds = {
        "gone": [id_ for id_ in old if id_ not in new],
        "new": [id_ for id_ in new if id_ not in old],
        "of other content": [id_ for id_ in both if old[id_][1] != new[id_][1]],
        "with another label": [
            f"{id_}: {old[id_][2]}, now {new[id_][2]}" for id_ in both if old[id_][2] != new[id_][2]
        ],
        "in another part": [
            f"{id_}: {old[id_][0]}, now {new[id_][0]}" for id_ in both if old[id_][0] != new[id_][0]
        ],
    }
    found = [f"{len(names):,} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
    return found or ([] if before == now else ["their order"])


def _by_id(rows: Members) -> dict[str, tuple[str, str, Any]]:
    return {id_: (part, *rest) for part, group in rows.items() for id_, *rest in group}


def _some(names: list[str]) -> str:
    return "; ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])


def recognise(
    examples: Sequence[Example], digests: Mapping[str, str], kept: Members, progress: Progress
) -> Known:
    """Return which of the examples a run trained on or validated with: none is a test for it.

    Args:
        kept: of the run.
        digests: content hash of each example, by id.

    Raises:
        DataError: it knows them all.
    """
    used = {digest: (part, id_) for part in ("val", "train") for id_, digest, _ in kept[part]}
    known = {e.id: used[digests[e.id]] for e in examples if digests[e.id] in used}
    text = f"{count(known, 'train'):,} it trained on, {count(known, 'val'):,} it validated with"
    if len(known) == len(examples):
        raise DataError(
            f"evaluation data: the run has seen each of the {len(known):,} usable images: {text}. "
            "Allowed: images that it has not seen, or no DATA for the run's own test part"
        )
    if known:
        seen = f"{len(known):,} of {len(examples):,} images, which the run has seen: {text}"
        progress.say("left out", seen)
    return known


def count(known: Known, part: str) -> int:
    """Return how many of the known images are of a run's part."""
    return sum(own == part for own, _ in known.values())


def reasons(known: Known) -> dict[str, str]:
    """Return by id why an image is left out of an evaluation."""
    uses = {"train": "trained on", "val": "validated with"}
    return {id_: f"the run {uses[part]} it ({own})" for id_, (part, own) in known.items()}
