"""A folder as it lies on the disk: its images, its sub-folders, and what is left aside in it."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tlkit.data.pictures.files import EXTENSIONS
from tlkit.data.pictures.header import MAGIC, MAGIC_LENGTH, match
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable

RUBBISH = {
    *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology
    *("@recycle", "@recently-snapshot"),  # QNAP
    *("$recycle.bin", "recycler", "system volume information"),  # Windows
    *("__macosx", "network trash folder", "temporary items"),  # macOS
    *("lost+found", "__pycache__"),  # ext2 to ext4, Python
    *(".ipynb_checkpoints", ".thumbnails", ".trash", ".trashes", ".git"),
}
"""Folders that systems and programs make beside a person's own, in lower case; some hold thumbnails
or copies of the images. They are left aside as if they were not there."""

COMPANIONS = {
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".pdf", ".ini"),
    *(".log", ".aae", ".xmp"),  # what Apple's and Adobe's programs put beside photographs
}
"""Endings of files that lie beside images and are none: not looked into."""

ARCHIVES = {".zip", ".7z", ".rar", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst"}
"""Endings of archives: one that lies where class folders do may hold another class."""

SYSTEM = {"thumbs.db", "desktop.ini"}
"""Files that systems put into folders beside a person's own; as good as hidden."""

NO_ENDING = "without an ending"


@dataclass(slots=True, eq=False)
class Tree:
    """A folder and all below it.

    Attributes:
        path: of the folder.
        folders: its sub-folders, by name; those of `RUBBISH`, dotted ones and run folders of
            tlkit are left out.
        images: its own files that are images by their ending, or by their first bytes where the
            ending says nothing.
        links: its links to folders; not followed, or a loop of links would have no end.
        others: how many of its files are no images, by ending in lower case; hidden files and those
            of `SYSTEM` are not counted.
        hidden: its dotted folders that hold images.
    """

    path: str
    folders: list[Tree] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def typed(self) -> str:
        """Its path as a shell takes it."""
        return shlex.quote(printable(self.path))

    @property
    def holds(self) -> bool:
        """Whether there are images in it or below; links count, since they are to be named."""
        return any(tree.images or tree.links for tree in self.below())

    def below(self) -> Iterator[Tree]:
        """Yield the folder and all below it; without recursion, however deep they lie."""
        waiting = [self]
        while waiting:
            tree = waiting.pop()
            yield tree
            waiting += tree.folders

    def holding(self) -> list[Tree]:
        """Return the sub-folders with images in them or below."""
        return [tree for tree in self.folders if tree.holds]

    def files(self) -> list[str]:
        """Return all images in it and below, in the order of their paths; links too."""
        found = [path for tree in self.below() for path in (*tree.images, *tree.links)]
        return sorted(found, key=lambda path: path.split(os.sep))

    def follow(self) -> None:
        """Take its own links to folders for sub-folders; one that leads nowhere is empty."""
        self.folders += [
            walk(path) if os.path.isdir(path) else Tree(path)
            for path in self.links
            if os.path.basename(path).lower() not in RUBBISH
        ]
        self.folders.sort(key=lambda tree: tree.name)
        self.links = []


def walk(folder: str | os.PathLike) -> Tree:
    """Read a folder and all below it.

    Raises:
        DataError: a folder cannot be read.
    """
    root = Tree(os.fspath(folder))
    waiting = [root]
    while waiting:
        tree = waiting.pop()
        try:
            with os.scandir(tree.path) as entries:
                _read(tree, entries, root)
        except OSError as error:
            name = printable(str(error.filename))
            raise DataError(f"data {name}: cannot be read: {error.strerror}") from error
        tree.folders.sort(key=lambda child: child.name)
        waiting += tree.folders
    return root


def _read(tree: Tree, entries: Iterator[os.DirEntry], root: Tree) -> None:
    names, unknown = set(), []
    for entry in entries:
        name = entry.name.lower()
        names.add(name)
        if name.endswith(EXTENSIONS) and name[0] != "." and not entry.is_dir(follow_symlinks=False):
            tree.images.append(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            if name in RUBBISH:
                continue
            if name[0] != ".":
                tree.folders.append(Tree(entry.path))
            elif _has_images(entry.path):
                tree.hidden.append(entry.path)
        elif name[0] != "." and name not in SYSTEM:
            unknown.append(entry)
    for entry in unknown:
        _read_other(tree, entry, names)
    # Its images are drawings of a training: `tlkit train .` writes them below the data.
    if tree is not root and {"spec.yaml", "checkpoints"} <= names:
        tree.folders, tree.images, tree.links, tree.others = [], [], [], Counter()


def _read_other(tree: Tree, entry: os.DirEntry, names: set[str]) -> None:
    """Sort in what is neither a folder nor an image by its ending; `names` stand beside it."""
    name = entry.name.lower()
    ending = os.path.splitext(name)[1]
    # `rose.jpg~`, `rose.jpg.bak`, `rose.jpg_original` (ExifTool's): the same image once more.
    backup = any(name[: name.find(e) + len(e)] in names for e in EXTENSIONS if e in name)
    # A link that leads nowhere may have led to a folder: it is to be named, not to vanish.
    lost = not ending and entry.is_symlink() and not os.path.exists(entry.path)
    if entry.is_dir() or lost:
        tree.links.append(entry.path)
    elif ending not in COMPANIONS and not backup and _is_image(entry):
        tree.images.append(entry.path)
    else:
        tree.others[ending or NO_ENDING] += 1


def _is_image(entry: os.DirEntry) -> bool:
    """Tell by its first bytes whether a file is an image; a pipe would never give any."""
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb", buffering=0) as file:
            head = file.read(MAGIC_LENGTH)
    except OSError:
        return False
    name = match(head, MAGIC.items())
    # Two letters are too little to go by: the reserved fields of a BITMAPFILEHEADER are 0.
    return name is not None and (name != "BMP" or head[6:10] == bytes(4))


def _has_images(folder: str) -> bool:
    try:
        return any(name.lower().endswith(EXTENSIONS) for name in os.listdir(folder))
    except OSError:
        return False


def count_others(trees: Iterable[Tree]) -> Counter[str]:
    """Return how many files that are no images lie in some folders themselves, by ending."""
    return sum((tree.others for tree in trees), Counter[str]())


def archives(tree: Tree) -> Counter[str]:
    """Return how many archives lie in a folder itself, by ending."""
    return Counter({ending: n for ending, n in sorted(tree.others.items()) if ending in ARCHIVES})


def counted(others: Counter[str]) -> str:
    """Say how many files of which ending there are; companions in one number.

    >>> counted(Counter({".mp4": 1, ".txt": 2, ".xml": 3}))
    '1 .mp4, 5 companions (.txt, .xml)'
    """
    strange = [(ending, n) for ending, n in others.most_common() if ending not in COMPANIONS]
    said = few([f"{n:,} {printable(ending[:20])}" for ending, n in strange])
    companions = sorted(set(others) & COMPANIONS)
    if not companions:
        return said
    total = sum(others[ending] for ending in companions)
    return f"{said}{', ' if said else ''}{number(total, 'companion')} ({few(companions)})"
