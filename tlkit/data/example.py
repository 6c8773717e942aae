"""One image with its label, and data sets as they were listed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from tlkit.data.annotations import Annotations
from tlkit.data.pictures.files import read_file
from tlkit.data.targets import Label, Targets


class Stored(Protocol):
    """A data set of records, as far as an example asks it: `readers.records.Records`."""

    def image(self, number: int, digest: str | None) -> bytes:
        """Return the bytes of the image in a record."""

    def label(self, number: int) -> bytes:
        """Return the bytes of a label that is a file, such as a mask, in a record."""


PARTS = {
    "train": ("train",),
    "val": ("validation", "val", "valid"),
    "test": ("test",),
}
"""The parts of a data set and the names of the folders that may hold them."""


class Facts(NamedTuple):
    """What is known of an image's pixels without decoding it: see `look.Finding`."""

    transparent: bool
    largest: int
    flat: bool
    alpha: str | None
    bits: int | None


@dataclass(frozen=True)
class FileLabel:
    """A label that is a file of its own, such as a mask; known by its content, not by its place.

    Attributes:
        path: the file; of a mask that annotations draw, or that is in a record, where these are.
        digest: content hash; empty before the file has been scanned.
        shape: height and width of the upright image that it belongs to, to which a mask of another
            size is brought; None before the scan.
        drawn: a mask that annotations draw, as PNG: it is in no file of its own. Its `digest` is
            known from the start.
        records, number: the data set whose record of this number holds it; then `digest` and
            `shape` are known from the start.
    """

    path: Path = field(compare=False)
    digest: str = ""
    shape: tuple[int, int] | None = field(default=None, compare=False)
    drawn: bytes = field(default=b"", compare=False, repr=False)
    records: Stored | None = field(default=None, compare=False, repr=False)
    number: int = field(default=0, compare=False)

    def read(self) -> bytes:
        """Return the content.

        Raises:
            OSError: the file or the record cannot be read.
        """
        if self.records is not None:
            return self.records.label(self.number)
        return self.drawn or read_file(self.path)

    @property
    def alone(self) -> bool:
        """Whether it is a file of its own."""
        return self.records is None and not self.drawn


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """One image with its label: a file, a record or an array.

    Attributes:
        id: path relative to the folder that was given, with forward slashes; `array/N` for arrays.
        label: the class; for other tasks a tuple of labels or of numbers, a file of its own, or
            what is drawn in the image.
        path: the file, or None for others.
        pixels: uint8 or float32, 0-255, RGB (height, width, 3) or with alpha (..., 4); None for
            others.
        records, number: the data set whose record of this number holds the image.
        digest: content hash of the image, where it is known without reading it; then it is known
            to be decodable too.
        group: name of what it belongs to with others, such as a patient or a clip; they stay on
            one side of every split. None: to nothing.
        facts: of its pixels, where `digest` is known and there is anything to say.
    """

    id: str
    label: Label | FileLabel | Annotations
    path: Path | None = None
    pixels: np.ndarray | None = None
    records: Stored | None = None
    number: int = 0
    digest: str | None = None
    group: str | None = None
    facts: Facts | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the example hangs on: the image's, and that of its label."""
        labelled = isinstance(self.label, FileLabel) and self.label.alone
        own = (self.path, self.label.path if labelled else None)
        return tuple(path for path in own if path is not None)

    def read(self) -> bytes:
        """Return the bytes that tell this image's content from another's.

        Raises:
            OSError: the file or the record cannot be read.
        """
        if self.path is not None:
            return read_file(self.path)
        if self.records is not None:
            return self.records.image(self.number, self.digest)
        pixels = self.pixels
        if pixels.dtype != np.uint8:  # the same image, whatever type it was given as
            whole = pixels.astype(np.uint8)
            pixels = whole if np.array_equal(whole, pixels) else pixels
        return str(pixels.shape).encode() + pixels.tobytes()


def content_digest(content: bytes) -> str:
    """Return the hash by which images are told apart."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass
class Listing:
    """A data set as it was listed: its name, its examples by part, and what had to be guessed.

    Attributes:
        notes: a sentence for each thing that was guessed about the data or left aside; a person
            who did not mean it so must be able to see it.
        targets: what reads the labels of all other data of the run, where these data settled it.
        facts: what else is to stand in the summary of a scan.
    """

    name: str
    parts: dict[str, list[Example]]
    notes: list[str] = field(default_factory=list)
    targets: Targets | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A data set: its name, the model's outputs, and the examples of each part that it holds.

    Attributes:
        notes: as in `Listing`, of all that was listed.
        grouping: the option by which examples have groups; None: they have none.
        settled: fields of the spec that the data settled, see `Targets.settled`.
        facts: as in `Listing`, of the training data's source.
    """

    name: str
    outputs: tuple[str, ...]
    parts: dict[str, list[Example]]
    notes: tuple[str, ...] = ()
    grouping: str | None = None
    settled: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def count_labels(examples: Sequence[Any]) -> dict[str, int]:
    """Return how many examples have each class or label; nothing for numbers."""
    return dict(sorted(Counter(name for e in examples for name in names_in(e.label)).items()))


def names_in(label: Any) -> list[str]:
    """Return the classes or labels in an example's label; of numbers and files none."""
    own = getattr(label, "names", label)
    return [x for x in (own if isinstance(own, tuple) else (own,)) if isinstance(x, str)]
