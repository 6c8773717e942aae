"""Folders of images beside folders of masks, file by file of the same name."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.compute.cores import CORES
from tlkit.data.example import PARTS, Example, FileLabel, Listing
from tlkit.data.mask_coding import code, key_of, told, values_in, written
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.pictures.files import read_file
from tlkit.data.readers.folder_names import parts_of, says_images, says_masks
from tlkit.data.readers.image_sets import image_sets
from tlkit.data.readers.mask_names import colour_table, names_beside
from tlkit.data.readers.masks import image_of
from tlkit.data.readers.tree import Tree, walk
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable
from tlkit.spec.coding import Coding

FORM = "a folder images beside a folder masks, or both in each of train, val and test"

DEEPEST = 5
"""Folders around the data that are gone into."""


def read_mask_folders(data: str | Path, targets: MaskTargets) -> Listing:
    """List images with their masks; `Listing.targets` knows what the values in these mean.

    Raises:
        DataError: there is no such pair of folders, an image has no mask or several, or it cannot
            be told what the values in masks mean.
    """
    root = Path(data)
    name = printable(root.resolve().name)
    tree = walk(root)
    pairs = _pairs(tree, str(root))
    folders = [pair for _, own in pairs for pair in own]
    notes = [
        "masks beside images: the task is segmentation (another: --set task=NAME); "
        + ", ".join(f"{_below(x.path, root)} with {_below(y.path, root)}" for x, y in folders)
    ]
    parts: dict[str, list[Example]] = {}
    sets = image_sets(Path(folders[0][0].path).parent, "Segmentation")
    for part, own in pairs:
        parts[part] = []
        for images, masks in own:
            found, left = _matched(images, masks, root, sets)
            parts[part] += found
            notes += left
    notes += _unused(tree, folders, root)
    if sets:
        parts = _by_sets(parts, sets, f"data {printable(str(root))}")
    every = [example for own in parts.values() for example in own]
    counts, unread, lossy = _counted(every)
    where = f"data {printable(str(root))}"
    if not counts:
        raise DataError(f"{where}: none of its masks can be read. Received: {few(unread)}")
    if lossy and len(counts) > 2:
        raise DataError(
            f"{where}: masks saved as JPEG, which changes their values. Allowed: PNG. Received: "
            f"{few(lossy)} with {len(counts)} values"
        )
    beside_images = [root, Path(folders[0][0].path).parent]
    coding, note = _coding(beside_images, counts, targets.coding, where)
    facts = {
        "values": {written(value): count for value, count in sorted(counts.items())},
        "taken_for": list(coding.values),
    }
    targets = replace(targets, coding=coding)
    return Listing(name, parts, [*notes, note], targets, {"masks": facts})


Pairs = list[tuple[str, list[tuple[Tree, Tree]]]]
"""For each part its folders of images, each with that of its masks."""


def _pairs(top: Tree, shown: str) -> Pairs:
    """Return the folders of each part; without parts all is for training."""
    level = top
    for _ in range(DEEPEST):
        level.follow()
        holding = level.holding()
        if beside(holding):
            images, masks = beside(holding)
            return _parts_inside(images, masks) or [("train", [(images, masks)])]
        parts = parts_of(tree.name for tree in holding)
        if "train" in parts.values():
            return [(part, [_inside(tree, part)]) for part, tree in _one_each(holding, parts)]
        if len(holding) != 1:
            break
        level = holding[0]
    raise DataError(
        f"data {shown}: holds no images with masks beside them. Allowed: {FORM}. Received: "
        f"{few([tree.name for tree in top.holding()]) or 'no folder with images'}"
    )


def _one_each(holding: list[Tree], parts: dict[str, str]) -> list[tuple[str, Tree]]:
    """Return the folder of each part.

    Raises:
        DataError: there are two of one.
    """
    found = []
    for part in PARTS:
        own = [tree for tree in holding if parts.get(tree.name) == part]
        if len(own) > 1:
            raise DataError(
                f"data {os.path.dirname(own[0].path)}: holds two folders for the {part} part. "
                f"Allowed: one. Received: {few([tree.name for tree in own])}"
            )
        found += [(part, tree) for tree in own]
    return found


def beside(folders: Iterable[Tree]) -> tuple[Tree, Tree] | None:
    """Return the folder of images and that of their masks among folders side by side.

    Raises:
        DataError: there are several of masks.
    """
    folders = list(folders)
    masks = [tree for tree in folders if says_masks(tree.name)]
    images = [tree for tree in folders if tree not in masks and says_images(tree.name)]
    if not masks or len(images) != 1:
        return None
    if len(masks) > 1:  # VOC: SegmentationObject has a number for each instance
        masks = [tree for tree in masks if "class" in tree.name.lower()] or masks
    if len(masks) > 1:
        raise DataError(
            f"data {os.path.dirname(images[0].path)}: holds several folders of masks. Allowed: one "
            f"beside {images[0].name}. Received: {few([tree.name for tree in masks])}"
        )
    return images[0], masks[0]


def _inside(tree: Tree, part: str) -> tuple[Tree, Tree]:
    tree.follow()
    if found := beside(tree.holding()):
        return found
    raise DataError(
        f"data {tree.path}: the {part} part holds no images with masks beside them. Allowed: "
        f"{FORM}. Received: {few([child.name for child in tree.folders]) or 'no folder'}"
    )


def _parts_inside(images: Tree, masks: Tree) -> Pairs | None:
    """Return the parts of images/train beside masks/train, and so on."""
    parts = parts_of(tree.name for tree in images.holding())
    if "train" not in parts.values() or images.images:
        return None
    folders = _one_each(images.holding(), parts)
    own = {tree.name: tree for tree in masks.holding()}
    lacking = [name for name in parts if name not in own]
    if lacking:
        raise DataError(
            f"data {masks.path}: lacks the folders that {images.name} has. Allowed: those of the "
            f"same names. Received: no {few(lacking)}"
        )
    return [(part, [(tree, own[tree.name])]) for part, tree in folders]


def _unused(top: Tree, pairs: list[tuple[Tree, Tree]], root: Path) -> list[str]:
    """Return a note on images in folders that are neither of images nor of masks."""
    used = {path for pair in pairs for tree in pair for path in tree.files()}
    left = [path for path in top.files() if path not in used]
    if not left:
        return []
    shown = few([_below(path, root) for path in left])
    return [f"{number(len(left), 'image')} in other folders left aside: {shown}"]


def _by_sets(
    parts: dict[str, list[Example]], sets: dict[str, str], where: str
) -> dict[str, list[Example]]:
    """Return the examples of all parts in those that VOC's lists say."""
    own: dict[str, list[Example]] = {}
    for example in (e for part in parts.values() for e in part):
        own.setdefault(sets[example.path.stem], []).append(example)
    if "train" not in own:
        raise DataError(
            f"{where}: ImageSets/Segmentation names no image for training. Allowed: train.txt with "
            f"stems of images. Received: {', '.join(own) or 'none that is there'}"
        )
    return own


def _matched(
    images: Tree, masks: Tree, root: Path, sets: dict[str, str]
) -> tuple[list[Example], list[str]]:
    """Return examples, and notes on masks that belong to none and on images in no list.

    Args:
        sets: the part of each stem by VOC's lists; empty: there are none.
    """
    files = {_stem(path, images): path for path in images.files()}
    aside = {stem: path for stem, path in files.items() if sets and stem not in sets}
    files = {stem: path for stem, path in files.items() if stem not in aside}
    found: dict[str, list[str]] = {}
    for path in masks.files():
        stem = _stem(path, masks)
        own = stem in files or stem in aside
        found.setdefault(stem if own else image_of(stem) or stem, []).append(path)
    where = f"data {_below(images.path, root)}"
    alone = [_below(path, root) for stem, path in files.items() if stem not in found]
    if alone:
        raise DataError(
            f"{where}: {number(len(alone), 'image')} without a mask in {_below(masks.path, root)}. "
            "Allowed: one of the same name for each (what holds nothing has one of a single "
            f"value), or the images moved away. Received: {few(alone)}"
        )
    twice = [own for stem, own in found.items() if stem in files and len(own) > 1]
    if twice:
        raise DataError(
            f"{where}: {number(len(twice), 'image')} with several masks. Allowed: one mask an "
            f"image. Received: {few([_below(path, root) for path in twice[0]])}"
        )
    known = files | aside
    lonely = [_below(own[0], root) for stem, own in found.items() if stem not in known]
    notes = [f"{number(len(lonely), 'mask')} of no image left aside: {few(lonely)}"] * bool(lonely)
    if aside:
        count = number(len(aside), "image")
        shown = few([_below(path, root) for path in aside.values()])
        notes.append(f"{count} left out, in no list of ImageSets/Segmentation: {shown}")
    examples = [
        Example(_below(path, root), FileLabel(Path(found[stem][0])), path=Path(path))
        for stem, path in files.items()
    ]
    return examples, notes


def _stem(path: str, tree: Tree) -> str:
    return os.path.splitext(os.path.relpath(path, tree.path))[0]


def _below(path: str, root: Path) -> str:
    return printable(os.path.relpath(path, root).replace(os.sep, "/"))


def _counted(examples: list[Example]) -> tuple[Counter[int], list[str], list[str]]:
    """Return the pixels of each value in all masks, those that cannot be read, and JPEG files."""
    lossy = []

    def one(example: Example) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            with Image.open(io.BytesIO(read_file(example.label.path))) as image:
                if image.format == "JPEG":
                    lossy.append(printable(example.label.path.name))
                return np.unique(values_in(image), return_counts=True)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None  # the scan says what is wrong with it

    counts: Counter[int] = Counter()
    unread = []
    with ThreadPoolExecutor(CORES) as threads:
        for example, found in zip(examples, threads.map(one, examples), strict=True):
            if found is None:
                unread.append(printable(example.label.path.name))
            else:
                counts.update(dict(zip(*(x.tolist() for x in found), strict=True)))
    return counts, unread, sorted(lossy)


def _coding(
    folders: Iterable[Path], counts: Counter[int], given: Coding, where: str
) -> tuple[Coding, str]:
    """Return what the values mean, as `given` or as told from them, and a note on it.

    Args:
        folders: where files that name classes may lie.
        where: begins an error message.
    """
    if given.values:
        unknown = {v: n for v, n in counts.items() if key_of(v, given) not in given.table}
        if unknown:
            raise DataError(
                f"{where}: masks hold values that mask_values does not name. Allowed: "
                f"{', '.join(given.values)}. Received: {told(unknown)}"
            )
        return given, f"masks hold {told(counts)}, taken as said: {', '.join(given.values)}"
    names: list[str] = []
    colours: dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        names, colours = names or names_beside(folder), colours or colour_table(folder)
    coding, note = code(counts, names, colours, where)
    return coding, f"{note}; otherwise: --set mask_values=[VALUE=NAME, ...]"
