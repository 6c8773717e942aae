"""The data of a run, ready for its first phase: listed, scanned, split."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.backbones.sides import told
from tlkit.data.column import read_by, seen_by, select
from tlkit.data.example import Example, Source, count_labels
from tlkit.data.feed.augment import Augmenter, augmenter
from tlkit.data.feed.examples import Batches, Encode, Examples, TargetEncoder
from tlkit.data.feed.mix import mixer
from tlkit.data.feed.pipeline import Draws, batches, seed_of
from tlkit.data.feed.say import say_before, say_data, say_groups, say_near, say_size
from tlkit.data.groups import groups_json
from tlkit.data.membership import Members, members
from tlkit.data.pictures.rendering import rendering_of
from tlkit.data.readers.open import open_source
from tlkit.data.scan.box_frames import say_boxes
from tlkit.data.scan.pixel_facts import say_pixels
from tlkit.data.scan.reading import Reading
from tlkit.data.scan.scan import Scan, scan
from tlkit.data.scan.summary import near_duplicates, summarise
from tlkit.data.split import Before, Split, split
from tlkit.errors import DataError, printable
from tlkit.progress import Progress
from tlkit.spec.run import ARRAYS, RunSpec
from tlkit.tasks.registry import lookup, targets_of

STAYS = (-1, -1)
"""In the place of a seed: the image is shown as it is."""


@dataclass(frozen=True)
class Prepared:
    """A run before its first phase: nothing has been written."""

    spec: RunSpec
    source: Source
    scan: Scan
    split: Split
    seconds: float

    @property
    def reading(self) -> Reading:
        """What reads the images from here on, and knows what was wrong with one."""
        return self.scan.reading

    def batched(self, size: int) -> Prepared:
        """Return the same data in batches of `size`."""
        return replace(self, spec=self.spec.model_copy(update={"batch_size": size}))

    def viewed(self, count: int) -> Prepared:
        """Return the same data with `count` views of each training image."""
        same = count == self.spec.kept_views
        copied = self.spec.model_copy(update={"augmented_copies": count - 1})
        return self if same else replace(self, spec=copied)

    def examples(self, part: str, encode: Encode) -> Examples:
        """Return one part as it is; `encode` makes a task's targets of labels."""
        return self._examples([(example, 0) for example in getattr(self.split, part)], encode)

    def whole(self, encode: Encode, test: bool = True) -> Examples:
        """Return all views of training images, then validation and, if wanted, test part."""
        parts = [self.split.val, *([self.split.test] if test else [])]
        others = [(example, 0) for part in parts for example in part]
        return self._examples([*self._seen(), *others], encode)

    def _seen(self) -> list[tuple[Example, int]]:
        views = range(self.spec.kept_views)
        return [(example, view) for view in views for example in self.split.train]

    def _examples(self, seen: Sequence[tuple[Example, int]], encode: Encode) -> Examples:
        """Return images with the number of the view that is asked of each, 0 as it is."""
        spec = self.spec
        targets = read_by(encode([example.label for example, _ in seen]), self.reading)
        roaming = "-roaming" if lookup(spec.task).roams else ""
        how = f"{spec.augment_level}{'' if spec.mirror else '-same-side'}{roaming}"
        digests = [
            f"{digest}-{how}-{spec.seed}-{view}" if view else digest
            for digest, view in ((self.scan.variant(e.id), view) for e, view in seen)
        ]

        viewed = any(view for _, view in seen)
        changes = changes_of(spec) if viewed else None
        pairs = zip(digests, seen, strict=True)
        seeds = [seed_of(digest) if view else STAYS for digest, (_, view) in pairs]
        seeds = np.array(seeds, np.int32).reshape(-1, 2)
        targets = seen_by(targets, changes, seeds, spec.size)

        def images(chosen: Sequence[int]) -> Batches:
            own = seeds[list(chosen)]
            moved = bool((own >= 0).any())
            return batches(
                [seen[i][0] for i in chosen],
                select(targets, list(chosen)),
                spec.size,
                spec.batch_size,
                Draws(augment=changes if moved else None, seeds=own if moved else None),
                rendering=self.scan.rendering,
                reading=self.reading,
            )

        def smaller(size: int) -> Examples:
            return self.batched(size)._examples(seen, encode)

        groups = np.array([self.split.units[e.id] for e, _ in seen])
        size = spec.batch_size
        return Examples(digests, targets, images, groups=groups, batch_size=size, smaller=smaller)

    def training(self, task: TargetEncoder) -> Examples:
        """Return the training part, balanced, and augmented where that is asked of its stream."""
        group, spec = self.split.train, self.spec
        plain = self.examples("train", task.encode)
        balance = task.balance(plain.targets, spec.balance)

        def stream(augment: bool, epochs: range = range(1)) -> Batches:
            targets, change, mix = plain.targets, None, None
            if augment:
                change = changes_of(spec)
                mix = mixer(spec.mixup, spec.cutmix)
            return batches(
                group,
                task.soften(targets) if mix else targets,
                spec.size,
                spec.batch_size,
                Draws(spec.seed, epochs, augment=change, mix=mix, balance=balance),
                rendering=self.scan.rendering,
                reading=self.reading,
            )

        seen = plain if spec.kept_views == 1 else self._examples(self._seen(), task.encode)
        return replace(
            plain,
            epochs=stream,
            balance=balance,
            views=spec.kept_views,
            all_views=seen,
            smaller=lambda size: self.batched(size).training(task),
        )

    def members(self) -> Members:
        """Return `data.json`: id, content hash and label of each image of each part."""
        return members(self.split.parts(), self.scan.digests)

    def scan_json(self) -> dict[str, Any]:
        """Return `scan.json`: what `summarise` says of the data as given, and the split."""
        left_out = {**self.scan.left_out, **self.split.left_out}
        parts = self.split.parts()
        summary = summarise(self.source.parts, self.scan, self.spec.size)
        if self.spec.near_duplicates:
            summary["near_duplicates"] = near_duplicates(parts, self.scan)
        return {
            **summary,
            **self.source.facts,
            **({"resized_masks": list(self.scan.resized)} if self.scan.labels else {}),
            "source": printable(self.spec.data),
            "notes": list(self.source.notes),
            "groups": groups_json(self.source.parts, self.scan.digests, self.source.grouping),
            "dropped": list(self.split.dropped),
            "classes": {part: count_labels(group) for part, group in parts.items()},
            "left_out": [{"id": id_, "reason": why} for id_, why in sorted(left_out.items())],
            "splits": self.split.ids(),
        }


def changes_of(spec: RunSpec) -> Augmenter | None:
    """Return what changes training images at random; None: nothing does."""
    return augmenter(spec.augment_level, spec.mirror, lookup(spec.task).roams, spec.resize)


def load_dataset(
    spec: RunSpec,
    arrays: dict[str, Any],
    progress: Progress,
    listed: Callable[[RunSpec, Source], None] = lambda spec, source: None,
    before: Before | None = None,
) -> Prepared:
    """List, scan and split the data of a run.

    Args:
        arrays: what stands in the place of `ARRAYS` in `spec`: `data`, `val`, `test`.
        listed: called once the examples are listed, before the first is read.
        before: what is kept of the run that this one starts from.

    Raises:
        DataError: see `open_source`, `scan` and `split`.
    """
    start = time.monotonic()
    if spec.data is None:
        raise DataError("data: is missing. Allowed: a folder of class folders, or example:elpv")
    source = open_spec(spec, arrays)
    spec = spec.model_copy(update=source.settled)
    listed(_with_full_paths(spec), source)
    examples = [example for part in source.parts.values() for example in part]
    asked, deciding = rendering_of(spec), source.parts["train"]
    near, size = spec.near_duplicates, spec.known_size
    empties = lookup(spec.task).labels.empties
    found = scan(examples, progress, spec.strict, near, asked, deciding, size, empties)
    spec = spec.model_copy(update={"bits": found.rendering.bits})
    source = replace(source, parts={p: found.hashed(own) for p, own in source.parts.items()})
    shares = {
        part: share
        for part in ("val", "test")
        if part not in source.parts and not isinstance(share := getattr(spec, part), str)
    }
    with _left_out_told(found):
        parts = split(
            source.parts, found.digests, shares, spec.seed, targets_of(spec), spec.rare, before
        )
    source = _with_split(source, parts)
    if before:
        source = replace(source, outputs=before.ordered(source.outputs))
        say_before(before, found, parts, source, progress)
    say_data(spec, source, found, parts, progress)
    say_groups(groups_json(source.parts, found.digests, source.grouping), progress)
    say_boxes(found.annotations.report, progress)
    say_pixels(found, asked, progress)
    spec = _sized(spec, parts, progress)
    say_size(spec, found, progress)
    if spec.near_duplicates:
        say_near(near_duplicates(parts.parts(), found), progress)
    return Prepared(_with_full_paths(spec), source, found, parts, time.monotonic() - start)


def _sized(spec: RunSpec, parts: Split, progress: Progress) -> RunSpec:
    """Return the spec with the size of the input that the objects of the training part ask for."""
    labels, asked = [e.label for e in parts.train], spec.size if spec.image_size else None
    found = lookup(spec.task).input_size(labels, spec.resize, asked)
    if found is None:
        return spec
    progress.say("size", f"{told(found[0])} pixels (--image-size): {found[1]}")
    return spec if asked else spec.model_copy(update={"image_size": found[0]})


@contextlib.contextmanager
def _left_out_told(found: Scan) -> Iterator[None]:
    """Add to an error of the split which files are missing from it, and why: the likely cause."""
    try:
        yield
    except DataError as error:
        if not found.left_out:
            raise
        id_, reason = next(iter(found.left_out.items()))
        raise DataError(
            f"{error}. {len(found.left_out):,} files were left out, such as {id_}: {reason}"
        ) from error


def open_spec(spec: RunSpec, arrays: dict[str, Any]) -> Source:
    """List the examples of a spec's data, validation and test sources; reads no image."""
    given = {
        part: arrays.get(part, value)
        for part in ("val", "test")
        if isinstance(value := getattr(spec, part), str)
    }
    asked = {"targets": targets_of(spec), "group": spec.group}
    return open_source(arrays.get("data", spec.data), **given, **asked)


def _with_split(source: Source, parts: Split) -> Source:
    """Return `source` with what the split found: the outputs that are left, and notes."""
    outputs = tuple(name for name in source.outputs if name not in parts.dropped)
    return replace(source, outputs=outputs, notes=(*source.notes, *parts.notes))


def _with_full_paths(spec: RunSpec) -> RunSpec:
    """Return `spec` with paths that still hold when a command is given from another folder."""
    full = {
        name: str(Path(value).resolve())
        for name in ("data", "val", "test", "init")
        if isinstance(value := getattr(spec, name), str)
        and value != ARRAYS
        and not value.startswith(("example:", "tfds:"))
    }
    weights = spec.backbone.weights
    if weights not in ("imagenet", "none", "own"):
        path = {"weights": str(Path(weights).resolve())}
        full["backbone"] = spec.backbone.model_copy(update=path)
    return spec.model_copy(update=full)
