"""Reads every picture once before training: what can be decoded, what is there twice."""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tlkit.data.groups import groups_json
from tlkit.data.look import Finding, look
from tlkit.data.sources import CLASSES, Example, open_source
from tlkit.data.targets import Targets
from tlkit.data.verdicts import Verdicts, state_of
from tlkit.errors import DataError, printable
from tlkit.progress import Progress

CHUNK = 512
"""Pictures that wait for a thread at once, whatever the size of the data set."""

SAVE_EVERY = 60.0
"""Seconds of looking after which findings are saved: what a killed scan loses at most."""


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        digests: content hash of each usable example, by id.
        left_out: reason for each unusable one, by id.
        findings: what each example is, by id.
    """

    digests: dict[str, str]
    left_out: dict[str, str]
    findings: dict[str, Finding] = field(default_factory=dict)

    def duplicates(self) -> list[list[str]]:
        """Return the ids of each group of examples with the same bytes."""
        groups = defaultdict(list)
        for id_, digest in self.digests.items():
            groups[digest].append(id_)
        return [sorted(group) for group in groups.values() if len(group) > 1]


def scan(
    examples: list[Example], progress: Progress, strict: bool = False, near: bool = False
) -> Scan:
    """Look at every example, in parallel; files that an earlier scan knows are not read again.

    Threads, since decoding holds no lock: on flowers5 2 threads on two cores take 0.77 of the time
    of one, and a process would first import TensorFlow for seconds.

    Args:
        strict: raise at examples that cannot be decoded instead of leaving them out.
        near: also compute perceptual hashes.

    Raises:
        DataError: `strict` is set and some cannot be decoded; names the first five.
    """
    digests, left_out, findings = {}, {}, {}
    with progress.bar("data", "reading pictures", len(examples)) as advance:
        for example, finding in _look_at(examples, near):
            findings[example.id] = finding
            if finding.problem:
                left_out[example.id] = finding.problem
            else:
                digests[example.id] = finding.digest
            advance()
    if left_out and strict:
        shown = "; ".join(f"{id_}: {reason}" for id_, reason in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        raise DataError(f"{len(left_out)} files cannot be used (--strict): {shown}{more}")
    return Scan(digests, left_out, findings)


def _look_at(examples: list[Example], near: bool) -> Iterator[tuple[Example, Finding]]:
    """Yield each example with what is known or found of it, in order."""
    kept = Verdicts(os.fspath(e.path) for e in examples if e.path is not None)
    saved = time.monotonic()

    def known(example: Example) -> Finding | None:
        if example.path is None:
            return None
        path = os.fspath(example.path)
        found = kept.get(path, state_of(path))
        if found and near and not found.problem and found.near is None:
            return None
        return found if near or not found else found._replace(near=None)

    def find(example: Example) -> Finding:
        if example.path is None:
            return look(example, near)
        path, before = os.fspath(example.path), time.time_ns()
        state = state_of(path)
        found = look(example, near)
        kept.put(path, state, before, found)
        return found

    remaining = iter(examples)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
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


def scan_source(
    data: str,
    progress: Progress,
    targets: Targets = CLASSES,
    size: int | None = None,
    group: str | None = None,
) -> tuple[dict[str, Any], list[Example]]:
    """Return what `tlkit data scan` prints, as `summarise` says it, and all examples.

    Args:
        size: side of the model's input in pixels; None: pictures are not held against it.
        group: as in `open_source`.

    Raises:
        DataError: see `open_source`.
    """
    from tlkit.data.summary import summarise

    source = open_source(data, targets=targets, group=group)
    examples = [e for part in source.parts.values() for e in part]
    found = scan(examples, progress, near=True)
    groups = groups_json(source.parts, found.digests, source.grouping)
    about = {"source": printable(data), "notes": list(source.notes), "groups": groups}
    return {**about, **summarise(source.parts, found, size)}, examples
