"""Reads every image once before training: what can be decoded, what is there twice."""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tlkit.compute.cores import CORES
from tlkit.data.example import Example, FileLabel
from tlkit.data.pictures.decode import is_turned
from tlkit.data.pictures.rendering import PLAIN, Rendering, smallest_bits
from tlkit.data.scan.findings_cache import Verdicts, state_of
from tlkit.data.scan.inspect import Finding, look
from tlkit.data.scan.reading import Reading
from tlkit.errors import DataError, printable
from tlkit.progress import Progress

CHUNK = 512
"""Images that wait for a thread at once, whatever the size of the data set."""

SAVE_EVERY = 60.0
"""Seconds of looking after which findings are saved: what a killed scan loses at most."""


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        digests: content hash of each usable example, by id.
        left_out: reason for each unusable one, by id.
        findings: what each example is, by id.
        rendering: how images are shown; its bits are decided.
        labels: content hash of each usable example's label, by id, where that is a file.
        kept: the file in which findings are kept for the next scan.
    """

    digests: dict[str, str]
    left_out: dict[str, str]
    findings: dict[str, Finding] = field(default_factory=dict)
    rendering: Rendering = PLAIN
    kept: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @cached_property
    def reading(self) -> Reading:
        """What reads the images from here on, and knows what was wrong with one."""
        return Reading(self.digests, self.kept)

    def hashed(self, examples: Iterable[Example]) -> list[Example]:
        """Return examples whose labels, where they are files, have their content hashes."""
        return [
            replace(e, label=replace(e.label, digest=self.labels[e.id]))
            if e.id in self.labels
            else e
            for e in examples
        ]

    def variant(self, id_: str) -> str:
        """Return the hash of a usable example's pixels as they are shown: see `Finding`."""
        return self.findings[id_].variant(self.rendering)

    def duplicates(self) -> list[list[str]]:
        """Return the ids of each group of examples with the same bytes."""
        groups = defaultdict(list)
        for id_, digest in self.digests.items():
            groups[digest].append(id_)
        return [sorted(group) for group in groups.values() if len(group) > 1]


def scan(
    examples: list[Example],
    progress: Progress,
    strict: bool = False,
    near: bool = False,
    rendering: Rendering = PLAIN,
    telling: Collection[Example] | None = None,
) -> Scan:
    """Look at every example, in parallel; files that an earlier scan knows are not read again.

    Threads, since decoding holds no lock: on flowers5 2 threads on two cores take 0.77 of the time
    of one, and a process would first import TensorFlow for seconds.

    Args:
        strict: raise at examples that cannot be decoded instead of leaving them out.
        near: also compute perceptual hashes.
        rendering: how images are shown. Without bits these are the fewest that hold the largest
            16-bit sample of `telling`.
        telling: those of `examples` that decide on bits; None, or none of 16 bits: all.

    Raises:
        DataError: `strict` is set and some cannot be decoded; names the first five.
    """
    digests, left_out, findings = {}, {}, {}
    kept = Verdicts(os.fspath(path) for e in examples for path in e.files)
    with progress.bar("data", "reading images", len(examples)) as advance:
        for example, finding in _look_at(examples, near, rendering, kept):
            findings[example.id] = finding
            if finding.problem:
                left_out[example.id] = finding.problem
            else:
                digests[example.id] = finding.digest
            advance()
    if rendering.bits is None:
        rendering = rendering._replace(bits=_bits(findings, telling or (), examples))
        # Seen by its own range so far; with the others' it may be dark.
        again = [e for e in examples if not findings[e.id].holds_for(rendering)]
        findings |= {e.id: finding for e, finding in _look_at(again, near, rendering, kept)}
    labels, problems = _look_at_labels(examples, findings, kept)
    left_out |= {id_: problem for id_, problem in problems.items() if id_ in digests}
    digests = {id_: digest for id_, digest in digests.items() if id_ not in problems}
    if left_out and strict:
        shown = "; ".join(f"{id_}: {reason}" for id_, reason in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        raise DataError(f"{len(left_out)} files cannot be used (--strict): {shown}{more}")
    return Scan(digests, left_out, findings, rendering, kept.path, labels)


def _look_at_labels(
    examples: list[Example], findings: dict[str, Finding], kept: Verdicts
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the content hashes of labels that are files, and why others cannot be used, by id."""
    labelled = [e for e in examples if isinstance(e.label, FileLabel)]
    masks = [Example(e.id, "", path=e.label.path) for e in labelled]
    digests, problems = {}, {}
    found = _look_at(masks, False, PLAIN._replace(bits=16), kept)
    for example, (_, mask) in zip(labelled, found, strict=True):
        image, name = findings[example.id], printable(example.label.path.name)
        if mask.problem:
            problems[example.id] = f"its mask {name}: {mask.problem}"
        elif image.problem:
            continue
        elif (mask.width, mask.height) != (image.width, image.height):
            problems[example.id] = (
                f"its mask {name} is of {mask.width} x {mask.height} pixels, the image of "
                f"{image.width} x {image.height}"
            )
        elif is_turned(example.read()):
            problems[example.id] = (
                f"it is turned by its EXIF orientation: whether its mask {name} is meant for the "
                "image as stored or as shown cannot be told. Save it upright"
            )
        else:
            digests[example.id] = mask.digest
    return digests, problems


def _bits(
    findings: dict[str, Finding], telling: Collection[Example], examples: Collection[Example]
) -> int:
    """Return the fewest bits that hold all samples; of prepared data what was decided then."""

    def bits(group: Collection[Example]) -> int:
        decided = [e.facts.bits for e in group if e.facts and e.facts.bits]
        largest = (findings[e.id].largest for e in group if not e.facts)
        return max([*decided, *(smallest_bits(x) for x in largest if x)], default=0)

    return bits(telling) or bits(examples) or 16


def _look_at(
    examples: list[Example], near: bool, rendering: Rendering, kept: Verdicts
) -> Iterator[tuple[Example, Finding]]:
    """Yield each example with what is known or found of it, in order."""
    saved = time.monotonic()

    def known(example: Example) -> Finding | None:
        if example.path is None:
            return None
        path = os.fspath(example.path)
        found = kept.get(path, state_of(path))
        if found and near and not found.problem and found.near is None:
            return None
        if found and not found.holds_for(rendering):
            return None
        return found if near or not found else found._replace(near=None)

    def find(example: Example) -> Finding:
        if example.path is None:
            return look(example, near, rendering)
        path, before = os.fspath(example.path), time.time_ns()
        state = state_of(path)
        found = look(example, near, rendering)
        kept.put(path, state, before, found)
        return found

    remaining = iter(examples)
    try:
        with ThreadPoolExecutor(CORES) as threads:
            try:
                while chunk := list(itertools.islice(remaining, CHUNK)):
                    before = [known(example) for example in chunk]
                    waiting = [e for e, k in zip(chunk, before, strict=True) if not k]
                    new = threads.map(find, waiting)
                    for example, finding in zip(chunk, before, strict=True):
                        yield example, finding or next(new)
                    if time.monotonic() - saved > SAVE_EVERY:
                        kept.save()
                        saved = time.monotonic()
            except BaseException:  # Ctrl-C: without this the whole chunk would still be read
                threads.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        kept.save()
