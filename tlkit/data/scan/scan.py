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

from tlkit.backbones.sides import Size
from tlkit.compute.cores import CORES
from tlkit.data.example import Example, FileLabel
from tlkit.data.pictures.decode import orientation_of
from tlkit.data.pictures.header import read_header
from tlkit.data.pictures.rendering import PLAIN, Rendering, smallest_bits
from tlkit.data.scan.box_frames import Fitted, fit_boxes
from tlkit.data.scan.findings_cache import Verdicts, state_of
from tlkit.data.scan.inspect import Finding, look
from tlkit.data.scan.mask_fit import fitted
from tlkit.data.scan.reading import Reading
from tlkit.errors import DataError
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
        labels: of each usable example the label with its content hash, by id, where that is a file.
        resized: ids of those whose mask is of another size than the image, of the same aspect.
        annotations: what is drawn in each usable example, in the frame of its upright image.
        kept: the file in which findings are kept for the next scan.
    """

    digests: dict[str, str]
    left_out: dict[str, str]
    findings: dict[str, Finding] = field(default_factory=dict)
    rendering: Rendering = PLAIN
    kept: Path | None = None
    labels: dict[str, FileLabel] = field(default_factory=dict)
    resized: tuple[str, ...] = ()
    annotations: Fitted = field(default_factory=Fitted)

    @cached_property
    def reading(self) -> Reading:
        """What reads the images from here on, and knows what was wrong with one."""
        return Reading(self.digests, self.kept)

    def hashed(self, examples: Iterable[Example]) -> list[Example]:
        """Return examples whose labels are known by the scan: those that are files have their
        content hashes, annotations are in the frame of the upright image."""
        known = {**self.annotations.labels, **self.labels}
        return [replace(e, label=known[e.id]) if e.id in known else e for e in examples]

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
    size: Size | None = None,
    empties: bool = False,
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
        size: size of the model's input, see `sides`, against which boxes are held; None: none.
        empties: whether images without a box are used.

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
    labels, problems, resized = _look_at_labels(examples, findings, kept)
    annotations = fit_boxes(examples, findings, size, rendering.fit, empties)
    problems |= annotations.problems
    left_out |= {id_: problem for id_, problem in problems.items() if id_ in digests}
    digests = {id_: digest for id_, digest in digests.items() if id_ not in problems}
    if left_out and strict:
        shown = "; ".join(f"{id_}: {reason}" for id_, reason in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        raise DataError(f"{len(left_out)} files cannot be used (--strict): {shown}{more}")
    return Scan(digests, left_out, findings, rendering, kept.path, labels, resized, annotations)


def _look_at_labels(
    examples: list[Example], findings: dict[str, Finding], kept: Verdicts
) -> tuple[dict[str, FileLabel], dict[str, str], tuple[str, ...]]:
    """Return the labels that are files, with their content hashes, why others cannot be used, by
    id, and the ids of masks that are of another size than their image.
    """
    labelled = [e for e in examples if isinstance(e.label, FileLabel)]
    masks = [Example(e.id, "", path=e.label.path) for e in labelled if e.label.alone]
    labels, problems, resized = {}, {}, []
    found = _look_at(masks, False, PLAIN._replace(bits=16), kept)
    for example in labelled:
        if example.label.shape:  # it was prepared: held against its image then
            labels[example.id] = example.label
            continue
        image = findings[example.id]
        mask = next(found)[1] if example.label.alone else _drawn_mask(example.label)
        turned = 1 if image.problem else orientation_of(example.read())
        label, problem = fitted(example.label, mask, image, turned)
        if label:
            labels[example.id] = label
            if (mask.height, mask.width) != label.shape:
                resized.append(example.id)
        elif problem:
            problems[example.id] = problem
    return labels, problems, tuple(resized)


def _drawn_mask(label: FileLabel) -> Finding:
    """Return what a mask is that annotations draw."""
    header = read_header(label.drawn)
    return Finding(label.digest, None, header.format, width=header.width, height=header.height)


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
