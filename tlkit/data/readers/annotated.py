"""Images with annotations in files of their own: which form they have, which image each is of."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.data.annotations import Annotations
from tlkit.data.example import Example, Listing
from tlkit.data.names import checked
from tlkit.data.pictures.files import EXTENSIONS, check_regular
from tlkit.data.readers.folder_names import part_of
from tlkit.data.targets import Targets
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable

NEEDED = 0.5
"""Share of the images of a folder that need XML files beside them for these to be its labels."""


BESIDE = (".jpg", ".jpeg", ".png", ".JPG", ".bmp", ".webp")
"""Endings of images that are looked for beside a text."""

_OBJECT = re.compile(rb"\s*\d+(\s+[-+.\deE]+){4,}\s*$")
"""A line of YOLO text."""


def files_below(root: Path) -> Iterator[Path]:
    """Yield all files below a folder, sorted, without hidden ones; links to folders are not
    followed, or a loop of links would have no end."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)


def form_of_annotations(root: Path) -> str | None:
    """Return `voc`, `coco` or `yolo`, or None where a folder holds nothing of the kind.

    Raises:
        DataError: it holds several of them.
    """
    images, xml, found = 0, 0, {}
    for path in files_below(root):
        kind = path.suffix.lower()
        if kind in EXTENSIONS:
            images += 1
        elif kind == ".xml" and b"<annotation" in _start(path, 1000):
            xml += 1
            found.setdefault("voc", path)
        elif kind == ".json" and _is_coco(_start(path)):
            found.setdefault("coco", path)
        elif kind == ".txt" and path.stem not in ("classes", "obj") and _is_yolo(path):
            found.setdefault("yolo", path)
    if xml < NEEDED * images:
        found.pop("voc", None)
    if not images or not found:
        return None
    if len(found) > 1:
        names = ", ".join(f"{kind} {printable(str(path))}" for kind, path in found.items())
        raise DataError(
            f"data {root}: has annotations of several forms. Allowed: one of Pascal VOC, COCO and "
            f"YOLO. Received: {names}"
        )
    return next(iter(found))


def _is_coco(content: bytes) -> bool:
    return all(sign in content for sign in (b'"images"', b'"annotations"', b'"categories"'))


def _start(path: Path, most: int = -1) -> bytes:
    """Return what a regular file begins with, or all of it; nothing if it cannot be read."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _is_yolo(path: Path) -> bool:
    """Tell whether a text lies in a folder `labels` or beside its image, and begins with a class
    number and four numbers or more: a caption does not."""
    among = any(part.lower() == "labels" for part in path.parts[:-1])
    if not among and not any(path.with_suffix(kind).is_file() for kind in BESIDE):
        return False
    return bool(_OBJECT.match(_start(path, 1000).partition(b"\n")[0]))


@dataclass
class Annotated:
    """Annotations of a folder as they are found, on their way to a listing.

    Attributes:
        root: the folder.
        targets: what they are read for.
        parts: annotations by image, for each part; "" where there are no parts.
        notes: of a listing.
    """

    root: Path
    targets: Targets
    parts: dict[str, dict[Path, Annotations]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def masks(self) -> bool:
        """Whether outlines are asked for, not boxes."""
        return self.targets.family == "masks"

    def add(self, part: str | None, image: Path, label: Annotations) -> None:
        """Add the objects of an image; more of them to one that is known.

        Raises:
            DataError: it stands in two parts.
        """
        for other, known in self.parts.items():
            if image in known and other != (part or ""):
                raise DataError(
                    f"data {self.root}: {printable(image.name)} stands in two parts, {other} and "
                    f"{part}"
                )
        own = self.parts.setdefault(part or "", {})
        own[image] = own[image].joined(label) if image in own else label

    def listing(self, form: str, without: Iterable[Path] = ()) -> Listing:
        """Return all as a listing.

        Args:
            form: of the annotations, for a note.
            without: images that have no annotations; they are left out, and named in a note.

        Raises:
            DataError: nothing is there to train on.
        """
        alone = [self._id(path) for path in without]
        if alone:
            self.notes.append(
                f"{number(len(alone), 'image')} without annotations left out: whether they show "
                f"no object, or nobody has looked, cannot be told: {few(alone)}"
            )
        if "" in self.parts:
            if len(self.parts) > 1:
                raise DataError(
                    f"data {self.root}: some images are in parts, others in none. Received: "
                    f"{number(len(self.parts['']), 'image')} in none, as "
                    f"{self._id(next(iter(self.parts[''])))}"
                )
            self.parts = {"train": self.parts[""]}
        if "train" not in self.parts:
            held = ", ".join(self.parts) or "no image with annotations"
            raise DataError(f"data {self.root}: has no training part. Received: {held}")
        parts = {
            part: [Example(self._id(path), label, path=path) for path, label in sorted(own.items())]
            for part, own in self.parts.items()
        }
        note = (
            f"outlines are read from {form}: the task is segmentation; the box around each: "
            "--set task=detection"
            if self.masks
            else f"boxes are read from {form}: the task is {self.targets.task}; another: "
            "--set task=NAME, such as classification"
        )
        return Listing(
            printable(self.root.resolve().name), parts, [note, *dict.fromkeys(self.notes)]
        )

    def _id(self, path: Path) -> str:
        return printable(Path(os.path.relpath(path, self.root)).as_posix())


def class_name(text: str, place: str) -> str:
    """Return the name of a class.

    Raises:
        DataError: it is empty, or none that could be written.
    """
    name = checked(text.strip(), place)
    if not name:
        raise DataError(f"{place}: is empty. Allowed: the name of a class")
    return name


class Images:
    """The images below a folder, found by what annotations call them."""

    def __init__(self, root: Path):
        self.root = root
        self.all = [p for p in files_below(root) if p.suffix.lower() in EXTENSIONS]
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            self._by_name[path.name].append(path)
            self._by_name[path.stem].append(path)

    def find(self, name: str, near: Path) -> Path | None:
        """Return the image of this name, or stem, in whatever folder; None: there is none.

        Args:
            near: the file that names it; of several images the one that shares most of its folders
                is meant.

        Raises:
            DataError: several are equally near.
        """
        found = self._by_name.get(name.replace("\\", "/").rpartition("/")[2], [])
        if len(found) < 2:
            return found[0] if found else None
        ranked = sorted(found, key=lambda path: -_shared(path, near))
        if _shared(ranked[0], near) == _shared(ranked[1], near):
            names = ", ".join(printable(str(path)) for path in ranked[:2])
            raise DataError(
                f"{printable(str(near))}: {printable(name)} may be several images. Received: "
                f"{names}"
            )
        return ranked[0]


def _shared(one: Path, other: Path) -> int:
    return len(os.path.commonpath([one.parent, other.parent]).split(os.sep))


def part_in(path: Path, root: Path) -> str | None:
    """Return the part that the folders of a file below `root` name, the first that names one."""
    inner = Path(os.path.relpath(path.parent, root)).parts
    return next((part for name in inner if (part := part_of(name))), None)


def shown(path: Path, root: Path) -> str:
    """Return a path as a message names it."""
    return printable(Path(os.path.relpath(path, root)).as_posix())
