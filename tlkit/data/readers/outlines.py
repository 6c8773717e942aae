"""Masks that annotations draw: polygons and run lengths, one class a pixel."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.compute.cores import CORES
from tlkit.data.annotations import Annotations
from tlkit.data.example import Example, FileLabel, Listing, content_digest
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.names import sorted_labels
from tlkit.data.pictures.decode import upright_size
from tlkit.data.pictures.files import read_file
from tlkit.data.pictures.header import read_header
from tlkit.data.pictures.limits import MAX_PIXELS
from tlkit.data.readers.read_annotated import read_annotated
from tlkit.data.regions import draw_regions
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable
from tlkit.spec.coding import NOTHING, VOID, Coding

BACKGROUND = "background"
"""The class of pixels that no object covers."""


@dataclass(frozen=True)
class _Drawn:
    """A mask, the pixels of each of its values, and what was found while it was drawn."""

    label: FileLabel
    counts: Counter[int]
    only_boxes: int = 0


def read_outlines(data: str | Path, targets: MaskTargets) -> Listing:
    """List images with the masks that their annotations draw.

    Pixels in no object are background, those in the box of an object without an outline are void.

    Raises:
        DataError: see `read_annotated`; no object has an outline; or the masks hold classes that
            `targets.coding` does not name.
    """
    listing = read_annotated(data, targets)
    where = f"data {printable(str(data))}"
    every = [example for own in listing.parts.values() for example in own]
    names = {box.name for e in every for box in e.label.boxes}
    if not any(box.outlined for e in every for box in e.label.boxes):
        raise DataError(
            f"{where}: no object has an outline, a polygon or run lengths. Allowed: such, or a "
            "folder of mask files; with boxes alone: --set task=localisation"
        )
    coding, outside = _coding(names, targets.coding, where)
    with ThreadPoolExecutor(CORES) as threads:
        drawn = list(threads.map(lambda e: _drawn(e, coding, outside, Path(data)), every))
    counts = sum((own.counts for own in drawn), Counter())
    if not targets.coding.values:  # background may be covered, and void nowhere
        unused = {f"{v}={n}" for v, n in ((outside, BACKGROUND), (VOID, NOTHING)) if not counts[v]}
        coding = Coding(tuple(text for text in coding.values if text not in unused))
    labels = {e.id: own.label for e, own in zip(every, drawn, strict=True)}
    parts = {
        part: [replace(e, label=labels[e.id]) for e in own] for part, own in listing.parts.items()
    }
    facts = {
        "values": {str(value): count for value, count in sorted(counts.items())},
        "taken_for": list(coding.values),
    }
    notes = [*listing.notes, *_notes(coding, counts, every, drawn)]
    return replace(
        listing, parts=parts, notes=notes, targets=replace(targets, coding=coding),
        facts={"masks": facts},
    )  # fmt: skip


def _coding(names: Iterable[str], given: Coding, where: str) -> tuple[Coding, int]:
    """Return the value of each class, as `given` or in the order of the names, and that of pixels
    in no object."""
    if not given.values:
        others = sorted_labels(set(names) - {BACKGROUND, NOTHING})
        values = [f"{i}={name}" for i, name in enumerate([BACKGROUND, *others])]
        try:
            return Coding((*values, f"{VOID}={NOTHING}")), 0
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    unknown = sorted(set(names) - {*given.classes, NOTHING})
    if unknown:
        raise DataError(
            f"{where}: holds objects of classes that mask_values does not name. Allowed: "
            f"{', '.join(given.classes)}. Received: {few(unknown)}"
        )
    values = _values(given)
    outside = values.get(BACKGROUND, values.get(NOTHING))
    if outside is None:
        raise DataError(
            f"{where}: mask_values has no value for pixels in no object. Allowed: one of them "
            f"{BACKGROUND} or {NOTHING}. Received: {', '.join(given.values)}"
        )
    return given, outside


def _values(coding: Coding) -> dict[str, int]:
    """Return a value for each class, and for void, as `values_in` reads it from a file."""
    number_of = {name: i for i, name in enumerate(coding.classes)} | {NOTHING: VOID}
    first: dict[int, int] = {}
    for value, own in coding.table.items():
        first.setdefault(own, value)
    return {name: first[own] for name, own in number_of.items() if own in first}


def _drawn(example: Example, coding: Coding, outside: int, data: Path) -> _Drawn:
    height, width = _sides(example)
    label, values = _in_pixels(example.label, height, width), _values(coding)
    void = values.get(NOTHING, outside)
    only_boxes = [not (box.outline or box.rle) for box in label.boxes]
    own = [
        void if alone else values[box.name]
        for alone, box in zip(only_boxes, label.boxes, strict=True)
    ]
    for box, place in zip(label.boxes, label.places, strict=True):
        if box.rle and (box.rle.height, box.rle.width) != (height, width):
            raise DataError(
                f"data {place}: segmentation: size: Allowed: that of its image, "
                f"[{height}, {width}]. Received: [{box.rle.height}, {box.rle.width}]"
            )
    pixels = draw_regions(label, own, outside, height, width)
    counts = Counter(dict(zip(*(x.tolist() for x in np.unique(pixels, return_counts=True)),
                              strict=True)))  # fmt: skip
    digest = content_digest(str(pixels.shape).encode() + pixels.tobytes())
    mask = FileLabel(data, digest, drawn=_as_png(pixels, coding))
    return _Drawn(mask, counts, sum(only_boxes))


def _sides(example: Example) -> tuple[int, int]:
    """Return height and width that outlines are in: as given, or of the image as shown."""
    label = example.label
    height, width = label.height, label.width
    if not (height and width):
        try:
            content = read_file(example.path)
        except OSError:
            return 1, 1  # the scan says what is wrong with the image
        header = read_header(content)
        height, width = (1, 1) if header.problem else upright_size(content, header)
    if height * width > MAX_PIXELS:
        raise DataError(
            f"data {example.id}: its annotations give it {width} x {height} pixels. Allowed: "
            f"{MAX_PIXELS:,} in all"
        )
    return height, width


def _in_pixels(label: Annotations, height: int, width: int) -> Annotations:
    """Return annotations with corners and outlines in pixels."""
    if not label.relative:
        return label
    sides = (width, height)
    boxes = tuple(
        box._replace(
            corners=tuple(x * sides[i % 2] for i, x in enumerate(box.corners)),
            outline=tuple(
                tuple(x * sides[i % 2] for i, x in enumerate(own)) for own in box.outline
            ),
        )
        for box in label.boxes
    )
    return replace(label, boxes=boxes, relative=False)


def _as_png(pixels: np.ndarray, coding: Coding) -> bytes:
    """Return values as the file of a mask that `values_in` reads them from."""
    if coding.colours:
        shades = np.stack([(pixels >> shift) & 255 for shift in (16, 8, 0)], axis=-1)
        image = Image.fromarray(shades.astype(np.uint8))
    else:
        image = Image.fromarray(pixels.astype(np.uint8 if pixels.max() < 256 else np.uint16))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _notes(
    coding: Coding, counts: Counter[int], every: list[Example], drawn: list[_Drawn]
) -> list[str]:
    """Return what was made of the annotations, in words."""
    total, values = sum(counts.values()), _values(coding)
    shares = sorted(((counts[v] / total, n) for n, v in values.items() if counts[v]), reverse=True)
    shown = few([f"{name} ({100 * share:.1f}%)" for share, name in shares])
    notes = [
        f"outlines are drawn as masks, smaller objects over larger ones: {shown}; pixels in no "
        f"object are {BACKGROUND if BACKGROUND in values else NOTHING}; objects of one class are "
        "not told apart (instances are not there yet)"
    ]
    if only := sum(own.only_boxes for own in drawn):
        notes.append(f"{number(only, 'object')} without an outline: the pixels of its box are void")
    if empty := [e.id for e in every if not e.label.boxes]:
        notes.append(f"{number(len(empty), 'image')} without objects, all background: {few(empty)}")
    return notes
