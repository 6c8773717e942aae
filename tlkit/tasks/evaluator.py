"""What measures the answers of a task on one part of the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.data.targets import Label


class Evaluator(ABC):
    """Measures answers batch by batch; keeps what the figures need, never all answers by rule."""

    @abstractmethod
    def update(
        self, ids: Sequence[str], labels: Sequence[Label], targets: np.ndarray, outputs: np.ndarray
    ) -> None:
        """Take a batch.

        Args:
            ids, labels: of its examples.
            targets: rows of the task's target column.
            outputs: of the model, float32 (n, ...).
        """

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """Return all metrics of what was taken, ready for JSON; `examples` counts it."""

    def calibration(self, temperature: float) -> dict[str, Any]:
        """Return what a temperature does to the answers, see `LinearTask.calibration`; of
        tasks that have none nothing."""
        return {}

    @abstractmethod
    def rows(self) -> list[list[str]]:
        """Return `predictions.csv`: its columns, then a row for each example."""

    def original(self, id_: str) -> np.ndarray | None:
        """Return an image that was taken, uint8 (height, width, 3), upright; None: it cannot be
        had. Who measures puts what reads it in the place of this."""
        return None

    @abstractmethod
    def draw(self, folder: Path) -> str:
        """Draw what a person would look at, as PNG files in `folder`.

        Returns:
            What is to be said of names that no font can write, or "".
        """
