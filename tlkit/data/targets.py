"""How labels are read, checked and spread over parts, for each task."""

from __future__ import annotations

import math
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tlkit.errors import DataError, printable
from tlkit.parts import TableSpec
from tlkit.spec import RunSpec

Label = str | tuple[str, ...] | tuple[float, ...]

BINS = 10
"""Groups of equal size into which numbers are sorted, so that each part gets small and large."""

LONGEST = 255
"""Characters that a label may have: as many as a folder's name."""


@dataclass(frozen=True)
class Targets(ABC):
    """What the examples of a task are labelled with.

    Attributes:
        kind: type of a label.
        plural, fewest: what a model's outputs are called, and how many it has at least.
        images: how many are needed, whatever their labels.
    """

    table: TableSpec = field(default_factory=TableSpec)
    kind: ClassVar[type] = tuple
    plural: ClassVar[str] = "classes"
    fewest: ClassVar[int] = 1
    images: ClassVar[int] = 0

    def columns(self) -> list[str]:
        """Return the columns of a CSV file that hold the label."""
        return [self.table.label]

    @abstractmethod
    def from_row(self, row: dict[str, str], where: str) -> Label:
        """Read the label in a row of a CSV file; `where` begins an error message."""

    @abstractmethod
    def from_array(self, value: Any) -> Label:
        """Read the label that stands beside a picture in an array."""

    @abstractmethod
    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        """Return the names of a model's outputs, in order."""

    @abstractmethod
    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        """Raise a DataError if `examples` hold what a model with `outputs` cannot answer."""

    def check_counts(self, usable: Sequence[Any]) -> None:
        """Raise a DataError if the usable examples are too few to split, whatever their labels."""
        if len(usable) < self.images:
            raise DataError(
                f"data: needs at least {self.images} usable pictures, to train, validate and test "
                f"with. Received: {len(usable)}"
            )

    def names(self, label: Label) -> tuple[str, ...]:
        """Return the classes or labels in an example's label; of numbers none."""
        return ()

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        """Return a label without the dropped ones; None where nothing can be said any more."""
        return label

    @abstractmethod
    def strata(self, examples: Sequence[Any]) -> list[str]:
        """Return for each example the group whose members are spread evenly over the parts."""


@dataclass(frozen=True)
class ClassTargets(Targets):
    """One class a picture."""

    kind: ClassVar[type] = str
    fewest: ClassVar[int] = 2

    def from_row(self, row: dict[str, str], where: str) -> str:
        if not row[self.table.label]:
            raise DataError(f"{where}: {self.table.label} is empty")
        return _name(row[self.table.label], f"{where}: {self.table.label}")

    def from_array(self, value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode()
        array = np.asarray(value)
        if array.ndim and array.size > 1:  # one-hot
            return str(int(array.argmax()))
        return str(array.reshape(()).item())

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        labels = sorted_labels(example.label for example in examples)
        if len(labels) < 2:
            raise DataError(
                f"{name}: needs at least two classes, each a folder of pictures. Received: {labels}"
            )
        return tuple(labels)

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        _check_known(name, part, {example.label for example in examples}, outputs, "classes")

    def names(self, label: Label) -> tuple[str, ...]:
        return (label,)

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        return None if label in dropped else label

    def strata(self, examples: Sequence[Any]) -> list[str]:
        return [example.label for example in examples]


@dataclass(frozen=True)
class LabelsTargets(Targets):
    """Any number of labels a picture."""

    plural: ClassVar[str] = "labels"

    def from_row(self, row: dict[str, str], where: str) -> tuple[str, ...]:
        parts = row[self.table.label].split(self.table.separator)
        place = f"{where}: {self.table.label}"
        return tuple(sorted({_name(part.strip(), place) for part in parts if part.strip()}))

    def from_array(self, value: Any) -> tuple[str, ...]:
        array = np.asarray(value)
        if array.dtype.kind in "biuf" and array.ndim == 1:
            return tuple(str(i) for i in np.flatnonzero(array))
        return tuple(sorted(str(x.decode() if isinstance(x, bytes) else x) for x in array.ravel()))

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        labels = sorted_labels(label for example in examples for label in example.label)
        if not labels:
            raise DataError(f"{name}: no picture has a label")
        return tuple(labels)

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        found = {label for example in examples for label in example.label}
        _check_known(name, part, found, outputs, "labels")

    def names(self, label: Label) -> tuple[str, ...]:
        return label

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        return tuple(name for name in label if name not in dropped)

    def strata(self, examples: Sequence[Any]) -> list[str]:
        # By the rarest of its labels: the one that could be missing from a part.
        counts = Counter(label for example in examples for label in example.label)
        return [
            min(example.label, key=lambda x: (counts[x], x), default="") for example in examples
        ]


@dataclass(frozen=True)
class NumberTargets(Targets):
    """One or several numbers a picture."""

    plural: ClassVar[str] = "numbers"
    images: ClassVar[int] = 3

    def columns(self) -> list[str]:
        return self.table.targets or [self.table.label]

    def from_row(self, row: dict[str, str], where: str) -> tuple[float, ...]:
        return tuple(_number(row[name], f"{where}: {name}") for name in self.columns())

    def from_array(self, value: Any) -> tuple[float, ...]:
        return tuple(_number(x, "data: a target") for x in np.asarray(value).ravel())

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        counts = {len(example.label) for example in examples}
        if len(counts) != 1:
            raise DataError(f"{name}: each picture needs equally many numbers. Received: {counts}")
        (count,) = counts
        if count == len(self.columns()):
            return tuple(self.columns())
        return tuple(f"{self.table.label}_{i}" for i in range(count))

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        counts = {len(example.label) for example in examples} - {len(outputs)}
        if counts:
            raise DataError(
                f"{name}: the {part} data has another number of targets than the training data. "
                f"Allowed: {len(outputs)}. Received: {counts.pop()}"
            )

    def strata(self, examples: Sequence[Any]) -> list[str]:
        order = sorted(range(len(examples)), key=lambda i: (examples[i].label, examples[i].id))
        size = max(math.ceil(len(examples) / BINS), BINS)
        groups = [""] * len(examples)
        for place, i in enumerate(order):
            groups[i] = f"{place // size:03d}"
        return groups


TARGETS: dict[str, type[Targets]] = {
    "classification": ClassTargets,
    "multilabel": LabelsTargets,
    "regression": NumberTargets,
}


def targets_of(spec: RunSpec) -> Targets:
    """Return how the labels of a run are read."""
    return TARGETS[spec.task](spec.table)


def count_labels(examples: Sequence[Any]) -> dict[str, int]:
    """Return how many examples have each class or label; nothing for numbers."""
    labels = [e.label if isinstance(e.label, tuple) else (e.label,) for e in examples]
    return dict(sorted(Counter(x for own in labels for x in own if isinstance(x, str)).items()))


def sorted_labels(labels: Iterable[str]) -> list[str]:
    """Sort labels; those that are all whole numbers by their value, so that 2 precedes 10."""
    found = set(labels)
    numeric = all(label.isdecimal() for label in found)
    return sorted(found, key=lambda label: (int(label) if numeric else 0, label))


def label_name(text: str) -> str:
    """Return the label that a name stands for: printable, without blanks around it, in one form.

    Unicode has two forms of an accented letter (UAX 15); macOS makes names of files in one, others
    in the other, and on the screen they are the same.
    """
    return printable(unicodedata.normalize("NFC", text.strip(" ") or text))


def _name(text: str, where: str) -> str:
    if len(text) > LONGEST:
        raise DataError(
            f"{where}: is no name of a class. Allowed: up to {LONGEST} characters. "
            f"Received: {len(text):,}, beginning with {text[:20]!r}"
        )
    return label_name(text)


def _number(text: Any, where: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: must be a number. Received: {text!r}")
    return value


def _check_known(name: str, part: str, found: set[str], outputs: Sequence[str], what: str) -> None:
    unknown = sorted(found - set(outputs))
    if unknown:
        raise DataError(
            f"{name}: the {part} data has {what} that the training data lacks. "
            f"Allowed: {', '.join(outputs)}. Received: {', '.join(unknown)}"
        )
