"""Masks beside the images that they belong to: drawn areas, no images of a class."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from tlkit.data.readers.folder_names import says_masks, says_nothing
from tlkit.data.readers.tree import Tree
from tlkit.data.wording import few, number

_MASK_OF = re.compile(
    r"(.+?)[ _.-]+(?:masks?|segmentations?|segmap|seg|ground[ _.-]?truth|gt|trimap)(?:[ _.-]?\d+)?",
    re.IGNORECASE,
)
"""The stem of a mask's file: that of its image, and a word (`case_7_mask_1` of `case_7`)."""


def leave_masks(classes: list[Tree], name: Callable[[str], str]) -> list[str]:
    """Take masks beside the images of classes out of them; return a note for each kind.

    Args:
        name: of a path, as it is shown.
    """
    notes = []
    if folders := leave_mask_folders(classes):
        count = sum(len(tree.files()) for tree in folders)
        names = few([name(tree.path) for tree in folders])
        notes.append(f"{number(count, 'image')} left out as masks of others: {names}")
    if files := leave_mask_files(classes):
        notes.append(
            f"{number(len(files), 'image')} left out as masks of others by their names, such "
            f"as {name(files[0])}"
        )
    return notes


def leave_mask_folders(classes: Iterable[Tree]) -> list[Tree]:
    """Take folders of masks that stand beside folders of images out of classes; return them."""
    left: list[Tree] = []
    for tree in classes:
        if any(says_nothing(child.name) for child in tree.holding()):
            masks = [child for child in tree.holding() if says_masks(child.name)]
            tree.folders = [child for child in tree.folders if child not in masks]
            left += masks
    return left


def leave_mask_files(classes: Iterable[Tree]) -> list[str]:
    """Take files that are named as the mask of an image beside them out of classes; return them.

    A name alone says little (`with_mask_1.jpg` is a face): the image must lie in the same folder.
    """
    left: list[str] = []
    for tree in (own for top in classes for own in top.below()):
        stems = {_stem(path) for path in tree.images}
        masks = {path for path in tree.images if image_of(_stem(path)) in stems}
        tree.images = [path for path in tree.images if path not in masks]
        left += sorted(masks)
    return left


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def image_of(stem: str) -> str | None:
    found = _MASK_OF.fullmatch(stem)
    return found[1] if found else None
