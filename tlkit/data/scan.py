"""Reads every picture once before training: what can be decoded, what is there twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tlkit.data.decode import why_undecodable
from tlkit.data.sources import CLASSES, Example, open_source
from tlkit.data.targets import Targets, count_labels
from tlkit.errors import DataError
from tlkit.progress import Progress


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        digests: content hash of each usable example, by id.
        left_out: reason for each unusable one, by id.
    """

    digests: dict[str, str]
    left_out: dict[str, str]

    def duplicates(self) -> list[list[str]]:
        """Return the ids of each group of examples with the same bytes."""
        groups = defaultdict(list)
        for id_, digest in self.digests.items():
            groups[digest].append(id_)
        return [sorted(group) for group in groups.values() if len(group) > 1]


def scan(examples: list[Example], progress: Progress, strict: bool = False) -> Scan:
    """Decode every example once, in parallel.

    Args:
        strict: raise at examples that cannot be decoded instead of leaving them out.

    Raises:
        DataError: `strict` is set and some cannot be decoded; names the first five.
    """
    digests, left_out = {}, {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        progress.bar("data", "reading pictures", len(examples)) as advance,
    ):
        looks = threads.map(_look, examples)
        try:
            for example, (digest, problem) in zip(examples, looks, strict=True):
                if problem:
                    left_out[example.id] = problem
                else:
                    digests[example.id] = digest
                advance()
        except BaseException:  # Ctrl-C: without this every picture would still be read
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    if left_out and strict:
        shown = "; ".join(f"{id_}: {reason}" for id_, reason in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        raise DataError(f"{len(left_out)} files cannot be used (--strict): {shown}{more}")
    return Scan(digests, left_out)


def _look(example: Example) -> tuple[str, str | None]:
    """Return the content hash of an example and what is wrong with it, if anything."""
    try:
        content = example.read()
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    problem = why_undecodable(content) if example.path is not None else None
    return hashlib.blake2b(content, digest_size=16).hexdigest(), problem


def scan_summary(data: str, progress: Progress, targets: Targets = CLASSES) -> dict[str, Any]:
    """Return what `tlkit data scan` prints: counts, unusable files, duplicates.

    Raises:
        DataError: see `open_source`.
    """
    source = open_source(data, targets=targets)
    found = scan([e for part in source.parts.values() for e in part], progress)
    counts = {part: count_labels(group) for part, group in source.parts.items()}
    return {
        "source": data,
        "classes": counts,
        "left_out": [{"id": id_, "reason": why} for id_, why in sorted(found.left_out.items())],
        "duplicates": found.duplicates(),
    }
