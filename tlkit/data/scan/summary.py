"""What a scan says of a data set as a whole: how much of what, and what looks wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from tlkit.backbones.sides import Size, sides
from tlkit.data.example import Example, count_labels, names_in
from tlkit.data.groups import groups_json
from tlkit.data.pictures.files import EXTENSIONS
from tlkit.data.pictures.header import MODES
from tlkit.data.pictures.rendering import UNDECIDED, Rendering
from tlkit.data.readers.open import open_source
from tlkit.data.scan.near_duplicates import MAX_COMPARED, NO_HASH, near_pairs
from tlkit.data.scan.pixel_facts import pixel_facts
from tlkit.data.scan.scan import Scan, scan
from tlkit.data.targets import CLASSES, Targets
from tlkit.errors import printable
from tlkit.progress import Progress

IMBALANCE = 4.0
"""Ratio of the largest to the smallest class from which a remedy is named: where the ratios begin
that the literature treats (Krawczyk 2016, "Learning from imbalanced data", section 2)."""

SHOWN = 1000
"""Entries of a list of single files or pairs; beside it stands how many there are in all."""

_NAMED = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **{".png": "PNG", ".apng": "PNG", ".gif": "GIF", ".webp": "WebP", ".bmp": "BMP", ".dib": "BMP"},
}


def summarise(
    parts: dict[str, list[Example]], found: Scan, size: Size | None = None
) -> dict[str, Any]:
    """Return what was found, ready for JSON.

    Args:
        parts: the examples as they were given, by part.
        found: their scan.
        size: side of the model's input in pixels; None: images are not held against it.

    Returns:
        `classes`: files of each class, by part; `files`: how many were given, can be used, and
        their bytes; `per_class`: usable images and their median [width, height] and bytes;
        `sizes`: smallest, median and largest image [width, height] by its pixels; `formats`,
        `modes`: how many of each; `left_out`: id and reason; `duplicates`: groups of ids of the
        same bytes, of which `across_parts` and `two_labels` are those that say so;
        `near_duplicates`, where hashes were computed: see there; `misnamed`: id, the format its
        name says and the one it has; `several`: ids of animations; `small`: images with a side
        below `size`, how many and the smallest;
        those of `pixel_facts`;
        `boxes`, where there are such: see `box_frames.Fitted`;
        `imbalance`: largest and smallest class, their ratio, and a hint from `IMBALANCE` on.
    """
    examples = [e for part in parts.values() for e in part]
    usable = [e for e in examples if e.id in found.digests]
    looks = {e.id: found.findings[e.id] for e in usable}
    groups = found.duplicates()
    part_of = {e.id: part for part, group in parts.items() for e in group}
    label_of = {e.id: e.label for e in examples}
    summary = {
        "classes": {part: count_labels(group) for part, group in parts.items()},
        "files": {
            "given": len(examples),
            "usable": len(usable),
            "bytes": sum(look.bytes for look in looks.values()),
        },
        "per_class": _per_class(usable, looks),
        "sizes": _sizes(list(looks.values())),
        "formats": _counted(look.format or "array" for look in looks.values()),
        "modes": _counted((look.mode for look in looks.values() if look.mode), MODES),
        "left_out": [{"id": id_, "reason": why} for id_, why in sorted(found.left_out.items())],
        "duplicates": groups,
        "across_parts": [g for g in groups if len({part_of[id_] for id_ in g}) > 1],
        "two_labels": [g for g in groups if len({label_of[id_] for id_ in g}) > 1],
        "misnamed": _misnamed(usable, looks),
        "several": sorted(id_ for id_, look in looks.items() if look.several),
        "small": _small(looks, size),
        **pixel_facts(found),
        "imbalance": imbalance(count_labels(usable)),
    }
    if found.annotations.report:
        summary["boxes"] = found.annotations.report
    if any(look.near is not None for look in looks.values()):
        summary["near_duplicates"] = near_duplicates(parts, found)
    return summary


def _per_class(usable: Sequence[Example], looks: dict[str, Any]) -> dict[str, Any]:
    members = defaultdict(list)
    for example in usable:
        for name in names_in(example.label):
            members[name].append(looks[example.id])
    return {
        label: {
            "usable": len(own),
            "median": _sizes(own)["median"],
            "bytes": sum(look.bytes for look in own),
        }
        for label, own in sorted(members.items())
    }


def _sizes(looks: Sequence[Any]) -> dict[str, list[int] | None]:
    known = sorted((x.width * x.height, x.width, x.height) for x in looks if x.width)
    places = {"smallest": 0, "median": (len(known) - 1) // 2, "largest": -1}
    return {name: list(known[i][1:]) if known else None for name, i in places.items()}


def _counted(values: Any, order: Sequence[str] = ()) -> dict[str, int]:
    """Count values, those of `order` first, the others by how often they occur."""
    counts = Counter(values)
    names = [name for name in order if name in counts]
    return {name: counts[name] for name in [*names, *dict(counts.most_common()).keys()]}


def _misnamed(usable: Sequence[Example], looks: dict[str, Any]) -> list[dict[str, str]]:
    found = []
    for example in usable:
        if example.path is None:
            continue
        suffix = PurePosixPath(example.path.name).suffix.lower()
        if suffix not in EXTENSIONS:  # it names no format
            continue
        named, real = _NAMED.get(suffix, suffix.lstrip(".").upper()), looks[example.id].format
        if named != real:
            found.append({"id": example.id, "named": named, "is": real})
    return sorted(found, key=lambda item: item["id"])


def _is_below(look: Any, size: Size) -> bool:
    height, width = sides(size)
    return look.height < height or look.width < width


def _small(looks: dict[str, Any], size: Size | None) -> dict[str, Any]:
    below = sorted(
        (min(look.width, look.height), id_)
        for id_, look in looks.items()
        if size and min(look.width, look.height) > 0 and _is_below(look, size)
    )
    return {"input": size, "count": len(below), "smallest": [id_ for _, id_ in below[:SHOWN]]}


def imbalance(counts: dict[str, int]) -> dict[str, Any] | None:
    """Return the largest and smallest class and their ratio; None for fewer than two classes.

    Returns:
        `largest`, `smallest`: `class` and `usable`; `ratio`; `hint`: the remedy, from `IMBALANCE`
        on, else None.
    """
    if len(counts) < 2:
        return None
    least, most = (min(counts, key=counts.get), max(counts, key=counts.get))
    ratio = counts[most] / counts[least]
    hint = "--set balance=weights (or sampling) makes rare classes count as much as frequent ones"
    return {
        "largest": {"class": most, "usable": counts[most]},
        "smallest": {"class": least, "usable": counts[least]},
        "ratio": round(ratio, 2),
        "hint": hint if ratio >= IMBALANCE else None,
    }


def near_duplicates(parts: dict[str, list[Example]], found: Scan) -> dict[str, Any]:
    """Return pairs of images that are much alike, exact duplicates left out.

    Returns:
        `count` and `across_parts`, how many pairs there are and how many stand in two of `parts`;
        `pairs`: their ids, differing bits (see `near.NEAR`) and whether they stand in two parts,
        those that do first; `note`: None, or why none were searched.
    """
    part_of = {e.id: part for part, group in parts.items() for e in group}
    usable = (id_ for id_ in sorted(part_of, reverse=True) if id_ in found.digests)
    ids = sorted({found.digests[id_]: id_ for id_ in usable}.values())
    if len(ids) > MAX_COMPARED:
        note = f"more than {MAX_COMPARED:,} images: {len(ids):,}"
        return {"count": None, "across_parts": None, "pairs": [], "note": note}
    hashes = [NO_HASH if (x := found.findings[id_].near) is None else x for id_ in ids]
    pairs = [
        {"ids": [ids[i], ids[j]], "bits": bits, "across_parts": part_of[ids[i]] != part_of[ids[j]]}
        for i, j, bits in near_pairs(hashes)
    ]
    # First those that make a test easier than it looks.
    pairs.sort(key=lambda pair: not pair["across_parts"])
    across = sum(pair["across_parts"] for pair in pairs)
    return {"count": len(pairs), "across_parts": across, "pairs": pairs[:SHOWN], "note": None}


def scan_source(
    data: str,
    progress: Progress,
    targets: Targets = CLASSES,
    size: Size | None = None,
    rendering: Rendering = UNDECIDED,
    group: str | None = None,
) -> tuple[dict[str, Any], list[Example], Rendering]:
    """Return what `tlkit data scan` prints, as `summarise` says it, all examples, and the bits.

    Args:
        size: side of the model's input in pixels; None: images are not held against it.
        rendering: how images are shown; it is returned with its bits decided.
        group: as in `open_source`.

    Raises:
        DataError: see `open_source`.
    """
    source = open_source(data, targets=targets, group=group)
    examples = [e for part in source.parts.values() for e in part]
    deciding, empties = source.parts["train"], targets.empties
    found = scan(examples, progress, False, True, rendering, deciding, size, empties)
    parts = {part: found.hashed(own) for part, own in source.parts.items()}
    groups = groups_json(source.parts, found.digests, source.grouping)
    about = {"source": printable(data), "notes": list(source.notes), "groups": groups}
    summary = {**about, **source.facts, **summarise(parts, found, size)}
    if found.labels:
        summary["resized_masks"] = list(found.resized)
    return summary, found.hashed(examples), found.rendering
