"""Questions about a tree of folders: whether a level is a wrapper, one of classes, one of parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tlkit.data.names import label_name
from tlkit.data.readers.folder_names import part_of, says_nothing
from tlkit.data.readers.tree import Tree


def wrapped(tree: Tree) -> Tree | None:
    """Return the folder that holds all of the data in `tree`, or None where `tree` is its level."""
    holding = tree.holding()
    if len(holding) != 1:
        return None
    (inner,) = holding
    if says_nothing(inner.name) or inner.name == tree.name:
        return inner
    # Beside empty folders the only one may be a class, as is one with images of its own.
    alone = len(tree.folders) == 1 and (not inner.images or len(inner.holding()) > 1)
    return inner if alone else None


def is_flat(tree: Tree) -> bool:
    """Tell whether all images of a folder lie in itself."""
    return not tree.holding() and not tree.links


def has_classes(tree: Tree, known: Collection[str]) -> bool:
    """Tell whether a folder has class folders, and not one alone that is called as no class is.

    Args:
        known: labels of classes.
    """
    holding = tree.holding()
    if len(holding) != 1 or label_name(holding[0].name) in known or holding[0].holding():
        return bool(holding)
    name = holding[0].name
    return not (part_of(name) or name.lower().startswith(("un", "pred")))


def copies(trees: Sequence[Tree]) -> list[Tree]:
    """Return the folders that hold no images but folders called as those beside them are.

    An archive that was packed with its own folder in it gives `rose`, `tulip` and `flowers/rose`,
    `flowers/tulip` side by side.
    """
    names = {tree.name.lower() for tree in trees}
    inner = [(tree, {child.name.lower() for child in tree.holding()}) for tree in trees]
    return [tree for tree, own in inner if len(own) > 1 and own <= names and not tree.images]


def parts_inside(tree: Tree) -> dict[str, list[Tree]]:
    """Return the sub-folders of a class by part, if they are called as parts are, all of them."""
    named: dict[str, list[Tree]] = {}
    for child in tree.holding():
        named.setdefault(part_of(child.name) or "", []).append(child)
    return {} if "" in named else named


def only_inner(tree: Tree) -> Tree:
    """Return the first folder at or below `tree` that has images, or several folders with some."""
    while not tree.images and len(tree.holding()) == 1:
        (tree,) = tree.holding()
    return tree
