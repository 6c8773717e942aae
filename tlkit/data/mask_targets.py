"""Masks as labels: a class for each pixel of an image, in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from tlkit.data.example import FileLabel
from tlkit.data.targets import Targets
from tlkit.errors import DataError
from tlkit.spec.coding import Coding
from tlkit.spec.run import RunSpec


@dataclass(frozen=True)
class MaskTargets(Targets):
    """A mask file an image.

    Attributes:
        coding: what the values in masks mean; without values it is told from the data.
    """

    coding: Coding = field(default_factory=Coding)
    task: ClassVar[str] = "segmentation"
    family: ClassVar[str] = "masks"
    kind: ClassVar[type] = FileLabel
    images: ClassVar[int] = 3
    stored: ClassVar[str | None] = "mask"

    @classmethod
    def of(cls, spec: RunSpec) -> Self:
        return cls(spec.table, (), Coding(tuple(spec.mask_values)))

    @property
    def settled(self) -> dict[str, Any]:
        return {"mask_values": list(self.coding.values)}

    def prepared(self, about: dict[str, Any], where: str) -> Targets:
        values = about.get("mask_values", [])
        try:
            own = Coding(tuple(values))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: mask_values: {error}; prepare it anew") from error
        if not self.coding.values:
            return replace(self, coding=own)
        if own.colours != self.coding.colours or set(own.table) - set(self.coding.table):
            raise DataError(
                f"{where}: its masks hold other values. Allowed: {', '.join(self.coding.values)}. "
                f"Received: {', '.join(own.values)}"
            )
        return self

    def from_row(self, row: dict[str, str], where: str) -> FileLabel:
        raise NotImplementedError("no reader of tables gives masks")

    def from_array(self, value: Any, where: str) -> FileLabel:
        raise NotImplementedError("no reader of arrays gives masks")

    def outputs(self, name: str, examples: Iterable[Any]) -> tuple[str, ...]:
        return self.coding.classes

    def check(self, name: str, part: str, examples: Iterable[Any], outputs: Sequence[str]) -> None:
        if self.coding.values and self.coding.classes != tuple(outputs):
            raise DataError(
                f"{name}: the masks of the {part} data have other classes. Allowed: "
                f"{', '.join(outputs)}. Received: {', '.join(self.coding.classes)}"
            )

    def strata(self, examples: Sequence[Any]) -> list[str]:
        return [""] * len(examples)
