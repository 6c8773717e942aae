"""What a person is told of the data before a run begins: one line each, most important first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tlkit.backbones.sides import told
from tlkit.data.example import Source, count_labels
from tlkit.data.groups import groups_line
from tlkit.data.pictures.rendering import PLAIN
from tlkit.data.scan.scan import Scan
from tlkit.data.scan.summary import imbalance
from tlkit.data.split import Before, Split
from tlkit.data.wording import SHOWN, few, number
from tlkit.progress import Progress
from tlkit.spec.run import RunSpec
from tlkit.tasks.registry import lookup


def say_data(spec: RunSpec, source: Source, found: Scan, parts: Split, progress: Progress) -> None:
    """Say how large the parts are, what was guessed, what is left out, and what looks wrong."""
    left_out = {**found.left_out, **parts.left_out}
    names = ", ".join(source.outputs[:SHOWN])
    more = ", ..." if len(source.outputs) > SHOWN else ""
    files = f"; {number(len(left_out), 'file')} left out (scan.json)" if left_out else ""
    progress.say(
        "data",
        f"{source.name}: {len(parts.train):,} train, {len(parts.val):,} validation, "
        f"{len(parts.test):,} test, {len(source.outputs)} {lookup(spec.task).called}: {names}{more}"
        f"{files}",
    )
    for note in source.notes:
        progress.say("note", note)
    for id_, reason in list(left_out.items())[:SHOWN]:
        progress.say("left out", f"{id_}: {reason}")
    if len(left_out) > SHOWN:
        progress.say("left out", f"{len(left_out)} files in all; the others are in scan.json")
    if found.resized:
        progress.say("masks", resized_text(found.resized, len(found.labels)))
    for label, text in _suspicious(spec, source, found, parts):
        progress.say(label, text)


def resized_text(resized: Sequence[str], masks: int) -> str:
    """Return the sentence on masks that are of another size than their images.

    Args:
        masks: how many there are in all.
    """
    return (
        f"{len(resized):,} of {masks:,} are of another size than their image, of the same aspect: "
        f"resized to it by nearest, such as that of {min(resized)}"
    )


def _suspicious(
    spec: RunSpec, source: Source, found: Scan, parts: Split
) -> Iterator[tuple[str, str]]:
    """Yield what is used, or not, as it is, though a person should know of it."""
    yield from _unsplit(spec, source)
    yield from _two_labels(found, parts)
    yield from _repeats(found, parts)
    usable = [e for part in source.parts.values() for e in part if e.id in found.digests]
    uneven = imbalance(count_labels(usable))
    if spec.balance == "none" and uneven and uneven["hint"]:
        yield "imbalance", imbalance_text(uneven)
    animated = sorted(e.id for e in usable if found.findings[e.id].several)
    if animated:
        count = number(len(animated), "animation")
        yield "animated", f"{count}, of which the first frame counts: {few(animated)}"


def _unsplit(spec: RunSpec, source: Source) -> Iterator[tuple[str, str]]:
    """Yield shares that were asked for and are not split off, since the data has such a part."""
    for part in ("val", "test"):
        share = getattr(spec, part)
        asked = not isinstance(share, str) and share != RunSpec.model_fields[part].default
        if asked and part in source.parts:
            count = number(len(source.parts[part]), "image")
            text = f"{part}: has no effect: the data has that part already, of {count}"
            yield "note", f"{text}. Received: {share:g}"


def _two_labels(found: Scan, parts: Split) -> Iterator[tuple[str, str]]:
    """Yield what is said of the same images under different labels, for each part."""
    for part, examples in parts.parts().items():
        groups = defaultdict(list)
        for example in examples:
            groups[found.digests[example.id]].append(example)
        twice = [own for own in groups.values() if len({e.label for e in own}) > 1]
        if not twice:
            continue
        one_class = isinstance(twice[0][0].label, str)
        verb = ("stand", "stands") if one_class else ("have", "has")
        stand = f"{verb[len(twice) == 1]} {'in two classes' if one_class else 'two labels'}"
        use = "trained on, never measured" if part == "train" else f"measured with both in {part}"
        ids = " and ".join(sorted(e.id for e in twice[0])[:2])
        yield "labels", f"{number(len(twice), 'image')} {stand}, such as {ids}; {use}"


def _repeats(found: Scan, parts: Split) -> Iterator[tuple[str, str]]:
    """Yield how many images of a part repeat another of it: a bar of features counts them once."""
    repeats: list[tuple[str, str]] = []
    for examples in parts.parts().values():
        first: dict[str, str] = {}
        for example in examples:
            before = first.setdefault(found.digests[example.id], example.id)
            repeats += [(example.id, before)] if before != example.id else []
    if repeats:
        count, verb = number(len(repeats), "image"), "has" if len(repeats) == 1 else "have"
        again, before = min(repeats)
        yield (
            "twice",
            f"{count} {verb} the content of another in the same part, such as {again} that of "
            f"{before}: used like any other, their features are computed once; all of them: "
            "duplicates in scan.json",
        )


def imbalance_text(uneven: dict[str, Any]) -> str:
    """Return the sentence on classes that differ much in number."""
    most, least = uneven["largest"], uneven["smallest"]
    return (
        f"{most['class']} has {uneven['ratio']:g} times as many as {least['class']} "
        f"({most['usable']:,} and {least['usable']:,}); {uneven['hint']}"
    )


def say_size(spec: RunSpec, found: Scan, progress: Progress) -> None:
    """Say what the size of the input is where it is no square, and if `resize` changes nothing."""
    size = spec.known_size
    looks = [found.findings[id_] for id_ in found.digests if id_ in found.findings]
    if isinstance(size, tuple):
        progress.say("size", f"images are brought to {told(size)} pixels")
    elif spec.resize != PLAIN.fit and all(look.width == look.height > 0 for look in looks):
        progress.say("resize", f"{spec.resize}: all images are square; it changes nothing")


def say_before(
    before: Before, found: Scan, parts: Split, source: Source, progress: Progress
) -> None:
    known = {
        part: sum(found.digests[e.id] in before.parts for e in group)
        for part, group in parts.parts().items()
    }
    counts = ", ".join(f"{count:,} {part}" for part, count in known.items())
    progress.say("init", f"{before.run}: images it knows stay in their parts: {counts}")
    new = source.outputs[len(before.outputs) :]
    progress.say(
        "", f"its {len(before.outputs)} outputs keep their places; new: {few(new) or 'none'}"
    )


def say_groups(found: dict[str, Any] | None, progress: Progress) -> None:
    if found:
        progress.say("groups", f"{groups_line(found)}: each on one side of every split")


def say_near(near: dict[str, Any], progress: Progress) -> None:
    if near["note"]:
        progress.say("near", f"duplicates were not searched: {near['note']}")
    elif near["across_parts"]:
        shown = " and ".join(near["pairs"][0]["ids"])
        progress.say(
            "near",
            f"{near['across_parts']} pairs of images much alike stand in two parts (scan.json), "
            f"such as {shown}",
        )
