"""Names of files that are written for images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stems:
    """Gives each image a file name of its own, without ending; those that differ in case alone are
    one on some disks.

    Attributes:
        used: names that are taken, in lower case.
    """

    used: set[str] = field(default_factory=set)

    def free(self, name: str) -> str:
        """Return an image's name without folders and ending, with a number where it is taken."""
        stem = own = Path(name).stem or "image"
        number = 1
        while own.casefold() in self.used:
            number += 1
            own = f"{stem}-{number}"
        self.used.add(own.casefold())
        return own
