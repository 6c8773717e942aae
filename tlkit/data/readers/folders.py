"""Examples from a folder of class folders, or of parts: which level is which, and what is said.

A folder is read as a tree first; then its levels are told apart by a few rules, from the outside
in: wrappers (a folder around the data), parts (train, val, test), classes. What the rules cannot
tell is refused, and what they guess is noted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from tlkit.data.example import Example
from tlkit.data.names import label_name
from tlkit.data.readers.folder_names import (
    are_nameless,
    is_plain,
    part_of,
    parts_of,
    says_images,
    says_masks,
)
from tlkit.data.readers.levels import (
    copies,
    has_classes,
    is_flat,
    only_inner,
    parts_inside,
    wrapped,
)
from tlkit.data.readers.masks import leave_masks
from tlkit.data.readers.no_classes import no_classes
from tlkit.data.readers.tree import Tree, archives, count_others, counted, walk
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable

DEEPEST = 20
"""Folders around the data that are gone into; a link to a folder above it would be one for ever."""

WORDS = {"train": "training", "val": "validation", "test": "test"}
TABLE = "a CSV file with image and label columns"
ONE_EACH = "train, one of validation, val and valid, and test"

Classes = list[tuple[str, Tree]]
"""The label of each class, and the folder that holds its images."""


def list_folder(folder: Path) -> tuple[dict[str, list[Example]], list[str]]:
    """List the examples of a folder by part, and say in sentences what was guessed or left aside.

    Raises:
        DataError: it cannot be read, has no class folders with images, or may be read in two ways.
    """
    reader = _Reader(folder)
    try:
        return reader.read(), reader.notes
    except DataError as error:
        raise DataError(". ".join([str(error), *reader.notes])) from error


class _Reader:
    """Reads one folder.

    Attributes:
        notes: what was guessed or left aside.
    """

    def __init__(self, folder: Path):
        self.folder, self.start = folder, len(os.path.join(folder, ""))
        self.notes: list[str] = []

    def read(self) -> dict[str, list[Example]]:
        root = walk(self.folder)
        level = self.entered(root)
        if named := self.part_folders(level):
            found = self.by_part(level, named)
        else:
            classes = self.classes(level)
            found = self.split_inside(classes) or {"train": _labelled(classes)}
            for own in found.values():
                self.check_level(level, own)
        self.say_left_aside(root, [tree for own in found.values() for _, tree in own])
        return {part: self.examples(level, own) for part, own in found.items()}

    def entered(self, top: Tree, known: Collection[str] = (), say: bool = True) -> Tree:
        """Return the level below folders that are the only one at theirs.

        Args:
            known: labels of classes; a folder called so is one, though it be the only one.
        """
        tree, aside, loose = top, [], []
        for _ in range(DEEPEST):
            tree.follow()
            inner = wrapped(tree)
            if inner is None or label_name(inner.name) in known:
                break
            if top.path == os.fspath(self.folder) and part_of(inner.name) == "train":
                break
            aside += [child for child in tree.folders if child is not inner]
            loose += tree.images
            tree = inner
        if tree is not top and say:
            left = f"; {self.named(aside)} left aside, without images" if aside else ""
            self.notes.append(
                f"{self.id(top.path) or 'the folder'} holds its data in {self.id(tree.path)}: "
                f"read from there{left}"
            )
            self.say_loose(loose)
        return tree

    # Parts

    def part_folders(self, level: Tree) -> dict[str, list[Tree]]:
        """Return the folders of each part, or nothing where the level is one of classes."""
        holding = level.holding()
        parts = parts_of(tree.name for tree in holding)
        named: dict[str, list[Tree]] = {}
        for tree in level.folders:
            part = parts.get(tree.name) or (None if tree.holds else part_of(tree.name))
            if part:
                named.setdefault(part, []).append(tree)
        trains = named.get("train", [])
        others = [tree for tree in holding if tree.name not in parts and tree.images]
        if trains and not (others and all(is_flat(tree) for tree in trains)):
            return named
        for tree in holding:
            if tree.name in parts:
                reason = "has no class folders" if trains else "stands beside no training part"
                self.notes.append(f"{self.id(tree.path)} is taken for a class: it {reason}")
        return {}

    def by_part(self, level: Tree, named: dict[str, list[Tree]]) -> dict[str, Classes]:
        self.check_one_each(named, ", ".join(printable(tree.name) for tree in level.folders))
        parts = {part: named[part][0] for part in WORDS if part in named}
        if any(not is_plain(tree.name, part) for part, tree in parts.items()):
            taken = (f"{printable(tree.name)} as {part}" for part, tree in parts.items())
            self.notes.append(f"parts by their names: {', '.join(taken)}")
        for tree in level.folders:
            if tree not in parts.values():
                self.check_strange(tree, level)
        self.say_loose(level.images)
        found: dict[str, Classes] = {}
        for part, top in parts.items():
            known = [label for label, _ in found.get("train", [])]
            tree = self.entered(top, known)
            if part == "train" or has_classes(tree, known):
                found[part] = _labelled(self.classes(tree))
                self.check_level(tree, found[part])
            else:
                used = f"the {WORDS[part]} part (one is split off, unless --{part} gives it)"
                self.say_unlabelled(tree, used)
        return found

    def check_one_each(self, named: dict[str, list[Tree]], received: str) -> None:
        for part, trees in named.items():
            if len(trees) > 1:
                raise DataError(
                    f"data {self.folder}: {self.named(trees)} are two folders for the "
                    f"{WORDS[part]} part; it must hold parts: {ONE_EACH}. Received: {received}"
                )

    def check_strange(self, tree: Tree, level: Tree) -> None:
        """Say what lies beside parts and is none of them; refuse what may be one."""
        if has_classes(self.entered(tree, say=False), ()):
            raise DataError(
                f"data {self.folder}: holds a folder for training, so it must hold parts: "
                f"{ONE_EACH}; move {self.id(tree.path)}, or give each part by itself, as with "
                f"--test. Received: {', '.join(printable(child.name) for child in level.folders)}"
            )
        self.say_unlabelled(tree, "a part")

    def say_unlabelled(self, tree: Tree, what: str) -> None:
        count, where = len(tree.files()), self.id(tree.path)
        if not count:
            self.notes.append(f"{where} holds no image and is not used as {what}")
            return
        self.notes.append(
            f"{where} holds {number(count, 'image')} outside class folders, without labels, and is "
            f"not used as {what}; to label them: tlkit predict RUN {tree.typed} --csv "
            "labels.csv"
        )

    # Classes

    def classes(self, level: Tree) -> list[Tree]:
        """Return the class folders of a level; say which are empty, and what lies beside them."""
        level.follow()
        holding = level.holding()
        if not holding:
            raise no_classes(level, self.folder)
        masks = [tree for tree in holding if says_masks(tree.name)]
        images = [tree for tree in holding if says_images(tree.name)]
        if masks and images:
            raise DataError(
                f"data {level.path}: {self.named(images)} beside {self.named(masks)} is a form of "
                "data for segmentation or detection, in which no image has a class. "
                f"Allowed: a folder for each class, or {TABLE}"
            )
        if len(holding) > 1 and are_nameless([tree.name for tree in holding]):
            raise DataError(
                f"data {level.path}: {self.named(holding)} are no names of classes, they say only "
                f"that images are there. Allowed: a folder for each class, called as it; {TABLE}"
            )
        for tree in level.folders:
            if not tree.holds:
                others = count_others(tree.below())
                found = f" ({counted(others)})" if others else ""
                self.notes.append(
                    f"{self.id(tree.path)} holds no image{found} and is left out as a class"
                )
        self.say_loose(level.images)
        if packed := archives(level):
            self.notes.append(f"beside the class folders, not unpacked: {counted(packed)}")
        return holding

    def say_loose(self, images: list[str]) -> None:
        if images:
            self.notes.append(
                f"{number(len(images), 'image')} outside class folders left out, such as "
                f"{self.id(min(images))}"
            )

    def split_inside(self, classes: list[Tree]) -> dict[str, Classes] | None:
        """Return the parts that stand inside each class folder, or None where none do."""
        inside = {tree.path: parts_inside(tree) for tree in classes}
        if not any(inside.values()):
            return None
        other = [t for t in classes if t.images or "train" not in inside[t.path]]
        if other:
            raise DataError(
                f"data {self.folder}: sub-folders of classes are called as parts are, but not each "
                f"class has a training sub-folder and no images beside it: {self.named(other)}. "
                "Allowed: train, val and test folders in every class, or in none"
            )
        found: dict[str, Classes] = {}
        for tree in classes:
            named = inside[tree.path]
            self.check_one_each(named, ", ".join(printable(child.name) for child in tree.folders))
            for part, (own,) in named.items():
                found.setdefault(part, []).append((label_name(tree.name), own))
        found = {part: found[part] for part in WORDS if part in found}
        names = dict.fromkeys(printable(tree.name) for own in found.values() for _, tree in own)
        self.notes.append(f"the class folders hold {few(list(names))}: taken as parts")
        return found

    def check_level(self, level: Tree, classes: Classes) -> None:
        """Refuse classes that may be another level; say what of their sub-folders is merged."""
        trees = [tree for _, tree in classes]
        self.notes += leave_masks(trees, self.id)
        inner = [only_inner(tree) for tree in trees]
        counts = Counter(child.name.lower() for tree in inner for child in tree.holding())
        # Most, not all: of 279 patients some lack one of the two findings.
        shared = [name for name, count in counts.items() if count * 2 > len(inner)]
        deep = [tree for tree in inner if not tree.images]
        if len(trees) > 1 and len(shared) > 1 and len(deep) * 2 > len(inner):
            parts = any(part_of(tree.name) for tree in trees)
            more = f" --test {trees[1].typed}" if parts else ""
            raise DataError(
                f"data {level.path}: which level are the classes? {self.named(trees)} hold no "
                f"images themselves but sub-folders of the same names: {few(sorted(shared))}. "
                "Allowed: the images of each class in its own folder; parts called train, val and "
                f"test, or given by themselves: tlkit train {trees[0].typed}{more}; {TABLE}"
            )
        if found := copies(trees):
            raise DataError(
                f"data {level.path}: {self.named(found)} is a copy of the folders beside it, by "
                "their names; move it. Allowed: each class once"
            )
        self.say_merged(trees)

    def say_merged(self, classes: list[Tree]) -> None:
        several = [t for t in classes if sum(bool(x.images) for x in t.below()) > 1]
        merged = [x for t in several for x in t.below() if x.images and x is not t]
        if merged:
            first = self.id(min(tree.path for tree in merged))
            alone = f"give {classes[0].typed}" if len(classes) == 1 else "put them side by side"
            self.notes.append(
                f"{number(len(merged), 'sub-folder')} merged into "
                f"{number(len(several), 'class')}, such as {first}; for classes of their own, "
                f"{alone}"
            )

    def say_left_aside(self, root: Tree, used: Iterable[Tree]) -> None:
        others = count_others(tree for top in used for tree in top.below())
        if others:
            self.notes.append(f"files not looked at: {counted(others)}")
        hidden = sorted(path for tree in root.below() for path in tree.hidden)
        if hidden:
            names = few([self.id(path) for path in hidden])
            self.notes.append(f"hidden folders with images in them left aside: {names}")

    def examples(self, level: Tree, classes: Classes) -> list[Example]:
        found = [
            Example(self.id(path), label, Path(path))
            for label, tree in classes
            for path in tree.files()
        ]
        counts = Counter(example.id for example in found) + Counter(label for label, _ in classes)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DataError(
                f"data {level.path}: names that cannot be told apart once they are made printable, "
                "in one form of Unicode and without blanks around them; rename one of each. "
                f"Received: {few(twice)}"
            )
        return found

    def id(self, path: str) -> str:
        """Return the name of a file or folder: its path below the data, with forward slashes."""
        return printable(path[self.start :].replace(os.sep, "/"))

    def named(self, trees: Iterable[Tree]) -> str:
        return few([self.id(tree.path) for tree in trees])


def _labelled(classes: Iterable[Tree]) -> Classes:
    return [(label_name(tree.name), tree) for tree in classes]
