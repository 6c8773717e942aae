"""How labels are read, checked and spread over parts, for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from tlkit.data.flags import flagged, say_uncertain, the_one
from tlkit.data.joined import check_separator, listed, say_joined, say_lists
from tlkit.data.names import checked, class_in_array, in_order, labels_in_array, sorted_labels
from tlkit.errors import DataError, printable
from tlkit.spec.run import RunSpec
from tlkit.spec.tables import TableSpec

Label = str | tuple[str, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Targets(ABC):
    """What the examples of a task are labelled with.

    Attributes:
        table: how a table is read.
        names: what the labels 0, 1, ... beside arrays are called, in order; empty: nothing else.
        stored: how a label is written by `tlkit data prepare`: as a `name`, `names`, `numbers`,
            `boxes` or a `mask`; None: it cannot be.
        named_by: fields of `table` that name outputs of other data too.
        task: what they are for, as in the spec.
        family: of tasks whose data have the same forms, see `readers.open.READERS`.
        kind: type of a label.
        plural, fewest: what a model's outputs are called, and how many it has at least.
        images: how many are needed, whatever their labels.
        empties: whether an image may show nothing of what is asked for.
    """

    table: TableSpec = field(default_factory=TableSpec)
    names: tuple[str, ...] = ()
    task: ClassVar[str]
    family: ClassVar[str] = "vector"
    kind: ClassVar[type] = tuple
    plural: ClassVar[str] = "classes"
    fewest: ClassVar[int] = 1
    stored: ClassVar[str | None] = None
    images: ClassVar[int] = 0
    empties: ClassVar[bool] = False
    named_by: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def of(cls, spec: RunSpec) -> Self:
        """Return how the labels of a run are read."""
        return cls(spec.table, tuple(spec.class_names))

    @property
    def settled(self) -> dict[str, Any]:
        """Fields of the spec that were told from the data, as they are to stand in spec.yaml."""
        return {}

    def columns(self) -> list[str]:
        """Return the columns of a table that hold the label."""
        return self.table.targets or [self.table.label]

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        """Look at all rows of a table before one is read.

        Args:
            separator: what stands between its columns.
            where: begins an error message.

        Returns:
            What reads them, and notes on what that guesses.
        """
        return self, []

    def is_labelled(self, row: dict[str, str]) -> bool:
        """Tell whether a row of a table says anything of its label."""
        return any(row[name] for name in self.columns())

    @abstractmethod
    def from_row(self, row: dict[str, str], where: str) -> Label:
        """Read the label in a row of a table; `where` begins an error message."""

    @abstractmethod
    def from_array(self, value: Any, where: str) -> Label:
        """Read the label that stands beside an image in an array."""

    def prepared(self, about: dict[str, Any], where: str) -> Targets:
        """Return what reads the labels of a data set that `tlkit data prepare` wrote.

        Args:
            about: what that says of it.
            where: begins an error message.

        Raises:
            DataError: it holds what these targets cannot mean.
        """
        return self

    def join(self, labels: Sequence[Label]) -> Label | None:
        """Return the label of an image that has these in several rows; None: it stays several."""
        return None

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
                f"data: needs at least {self.images} usable images, to train, validate and test "
                f"with. Received: {len(usable)}"
            )

    def names_in(self, label: Label) -> tuple[str, ...]:
        """Return the classes or labels in an example's label; of numbers none."""
        return ()

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        """Return a label without the dropped ones; None where nothing can be said any more."""
        return label

    @abstractmethod
    def strata(self, examples: Sequence[Any]) -> list[str]:
        """Return for each example the group whose members are spread evenly over the parts."""


@dataclass(frozen=True)
class _NameTargets(Targets):
    """Names of classes or labels, declared in their order or as they are found."""

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        return self, say_uncertain(rows, self.table.targets, self.table.uncertain)

    def is_labelled(self, row: dict[str, str]) -> bool:
        return self.table.uncertain != "error" or super().is_labelled(row)

    def _flagged(self, row: dict[str, str], where: str) -> list[str]:
        found = flagged(row, self.table.targets, self.table.uncertain, where)
        return [checked(name, where) for name in found]

    def _in_order(self, name: str, found: set[str]) -> tuple[str, ...]:
        if self.names:
            return in_order(name, found, "class_names", self.names)
        return in_order(name, found, "table.targets", tuple(map(printable, self.table.targets)))


@dataclass(frozen=True)
class ClassTargets(_NameTargets):
    """One class an image."""

    task: ClassVar[str] = "classification"
    stored: ClassVar[str | None] = "name"
    kind: ClassVar[type] = str
    fewest: ClassVar[int] = 2

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        if self.table.targets:
            return super().survey(rows, separator, where)
        return self, say_joined([row[self.table.label] for row in rows], self.table.label)

    def from_row(self, row: dict[str, str], where: str) -> str:
        if self.table.targets:
            return the_one(self._flagged(row, where), len(self.table.targets), where)
        if not row[self.table.label]:
            raise DataError(f"{where}: {self.table.label} is empty")
        return checked(row[self.table.label], f"{where}: {self.table.label}")

    def from_array(self, value: Any, where: str) -> str:
        return class_in_array(value, self.names, where)

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        found = {example.label for example in examples}
        if len(found) < 2:
            raise DataError(
                f"{name}: needs at least two classes, each a folder of images. "
                f"Received: {sorted_labels(found)}"
            )
        return self._in_order(name, found)

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        check_known(name, part, {example.label for example in examples}, outputs, "classes")

    def names_in(self, label: Label) -> tuple[str, ...]:
        return (label,)

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        return None if label in dropped else label

    def strata(self, examples: Sequence[Any]) -> list[str]:
        return [example.label for example in examples]


@dataclass(frozen=True)
class LabelsTargets(_NameTargets):
    """Any number of labels an image."""

    task: ClassVar[str] = "multilabel"
    stored: ClassVar[str | None] = "names"
    plural: ClassVar[str] = "labels"

    def is_labelled(self, row: dict[str, str]) -> bool:
        return not self.table.targets or super().is_labelled(row)

    def survey(
        self, rows: Sequence[dict[str, str]], separator: str, where: str
    ) -> tuple[Targets, list[str]]:
        if self.table.targets:
            return super().survey(rows, separator, where)
        cells = [row[self.table.label] for row in rows]
        told = "separator" in self.table.model_fields_set
        place = f"{where}: {self.table.label}"
        plain = [cell for cell in cells if listed(cell) is None]
        notes = check_separator(plain, self.table.separator, told, place) if plain else []
        return self, [*say_lists(cells), *notes]

    def from_row(self, row: dict[str, str], where: str) -> tuple[str, ...]:
        if self.table.targets:
            return tuple(sorted(self._flagged(row, where)))
        cell = row[self.table.label]
        parts = cell.split(self.table.separator) if (own := listed(cell)) is None else own
        place = f"{where}: {self.table.label}"
        return tuple(sorted({checked(part.strip(), place) for part in parts if part.strip()}))

    def from_array(self, value: Any, where: str) -> tuple[str, ...]:
        return labels_in_array(value, self.names, where)

    def join(self, labels: Sequence[Label]) -> Label:
        return tuple(sorted({label for own in labels for label in own}))

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        found = {label for example in examples for label in example.label}
        if not found:
            raise DataError(f"{name}: no image has a label")
        return self._in_order(name, found)

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        found = {label for example in examples for label in example.label}
        check_known(name, part, found, outputs, "labels")

    def names_in(self, label: Label) -> tuple[str, ...]:
        return label

    def without(self, label: Label, dropped: Collection[str]) -> Label | None:
        return tuple(name for name in label if name not in dropped)

    def strata(self, examples: Sequence[Any]) -> list[str]:
        # By the rarest of its labels: the one that could be missing from a part.
        counts = Counter(label for example in examples for label in example.label)
        return [
            min(example.label, key=lambda x: (counts[x], x), default="") for example in examples
        ]


def check_known(name: str, part: str, found: set[str], outputs: Sequence[str], what: str) -> None:
    unknown = sorted(found - set(outputs))
    if unknown:
        raise DataError(
            f"{name}: the {part} data has {what} that the training data lacks. "
            f"Allowed: {', '.join(outputs)}. Received: {', '.join(unknown)}"
        )


CLASSES = ClassTargets()
"""One class an image, as it is read unless more is said."""
