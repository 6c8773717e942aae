"""Tasks that answer with a row of numbers, from pooled features through one Dense layer.

Such a head on fixed features is a convex problem, and is solved (`tlkit.solver`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.data.csv_cells import csv_cell
from tlkit.data.targets import Label
from tlkit.lettering import lettering, missing_note
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.pooled import PREDICTIONS, pooled, weights_of
from tlkit.tasks.task import Task

LONGEST = 24
"""Characters of a name under an image."""


def shortened(name: str) -> str:
    """Return a name that fits under an image."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


@dataclass(frozen=True)
class LinearTask(Task):
    """Targets and outputs are rows of numbers; targets lie in an array.

    Besides what every task says it tells what the solver, the probe of `tlkit compare` and LogME
    ask for. An image keeps its target whatever is done to it.
    """

    answers: ClassVar[str] = "probabilities"
    fields: ClassVar[tuple[str, ...]] = ("label", "score", "probabilities")
    keeps_views: ClassVar[bool] = True
    pools: ClassVar[bool] = True
    row_an_image: ClassVar[bool] = True
    drawing: ClassVar[str]

    def head(self, features: keras.KerasTensor, head: HeadSpec) -> keras.KerasTensor:
        x = pooled(features, head)
        # float32 whatever the backbone computes in: a softmax over half floats loses small classes.
        return self.top(x, {"dtype": "float32", "name": PREDICTIONS, **weights_of(head)})

    @abstractmethod
    def top(self, x: keras.KerasTensor, dense: dict[str, Any]) -> keras.KerasTensor:
        """Put the output layers on pooled features (n, features).

        Args:
            dense: arguments of the layer `predictions`, which holds the weights.
        """

    @abstractmethod
    def scaled(self, targets: np.ndarray) -> np.ndarray:
        """Return targets as the layer `predictions` sees them."""

    @abstractmethod
    def measure(self, raw: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
        """Return loss and metric of the layer `predictions` before its activation."""

    @abstractmethod
    def label_quality(self, raw: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return how well answers agree with labels (n,), 0 to 1: a low one is worth a look.

        Args:
            raw: out of sample, before the activation of the layer `predictions` (n, outputs).
        """

    @abstractmethod
    def suggestion(self, raw: np.ndarray) -> str:
        """Return what one such row (outputs,) says instead of a label."""

    @abstractmethod
    def metrics(self, targets: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
        """Return all metrics of one part of the data.

        Args:
            targets, outputs: as encoded, and of the model (n, outputs).
        """

    def calibration(
        self, targets: np.ndarray, outputs: np.ndarray, temperature: float
    ) -> dict[str, Any]:
        """Return what a temperature does to outputs as they were trained: negative log-likelihood,
        expected calibration error and reliability, each `raw` and `calibrated`; of numbers nothing.
        """
        return {}

    @abstractmethod
    def draw(
        self, metrics: dict[str, Any], targets: np.ndarray, outputs: np.ndarray, names: list[str],
        path: Path,
    ) -> bool:  # fmt: skip
        """Draw `metrics` into a PNG file; return whether the names stand in it.

        Args:
            names: of the outputs, as they can be written.
        """

    def columns(self) -> list[str]:
        """Return the columns of `predictions.csv` behind `id`."""
        return ["truth", "prediction", *(f"p_{label}" for label in self.outputs)]

    def cells(self, truth: Any, row: np.ndarray) -> list[str]:
        """Return what stands in `columns` for an example; several labels are joined by `|`."""
        answer = self.decode(row)
        given = "|".join(answer["labels"]) if "labels" in answer else answer["label"]
        shown = truth if isinstance(truth, str) else "|".join(truth)
        return [*map(csv_cell, (shown, given)), *(f"{p:.6f}" for p in row)]

    def outputs_in(self, row: Sequence[str]) -> np.ndarray:
        """Return the model's outputs (outputs,) of a row of `predictions.csv`, without its id."""
        return np.array(row[2:], np.float32)

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        return {self.answers: outputs}

    def describe(self, target: np.ndarray) -> str:
        """Return a mixed target (outputs,) in words: its classes, with shares where they are
        several."""
        pairs = [(float(x), n) for x, n in zip(target, self.outputs, strict=True) if x > 0.005]
        lines = [
            shortened(name) if share > 0.995 else f"{shortened(name)} {share:.2f}"
            for share, name in sorted(pairs, key=lambda pair: -pair[0])
        ]
        return "\n".join(lines[:4] + (["..."] if len(lines) > 4 else [])) or "no label"

    def explained(self, row: np.ndarray) -> int | None:
        return int(row.argmax())

    def evaluator(self) -> Evaluator:
        return _Rows(self)


@dataclass
class _Rows(Evaluator):
    """Holds all targets and outputs: some numbers an image."""

    task: LinearTask
    ids: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)

    def update(
        self, ids: Sequence[str], labels: Sequence[Label], targets: np.ndarray, outputs: np.ndarray
    ) -> None:
        self.ids += ids
        self.labels += labels
        self.targets.append(targets)
        self.outputs.append(outputs)

    def result(self) -> dict[str, Any]:
        return self.task.metrics(np.concatenate(self.targets), np.concatenate(self.outputs))

    def calibration(self, temperature: float) -> dict[str, Any]:
        both = np.concatenate(self.targets), np.concatenate(self.outputs)
        return self.task.calibration(*both, temperature)

    def rows(self) -> list[list[str]]:
        every = zip(self.ids, self.labels, np.concatenate(self.outputs), strict=True)
        rows = [[csv_cell(id_), *self.task.cells(label, row)] for id_, label, row in every]
        return [["id", *self.task.columns()], *rows]

    def draw(self, folder: Path) -> str:
        task, path = self.task, folder / self.task.drawing
        targets, outputs = np.concatenate(self.targets), np.concatenate(self.outputs)
        with lettering(task.outputs) as shown:
            names = list(map(shown, task.outputs))
            if not task.draw(self.result(), targets, outputs, names, path):
                return ""
        return missing_note(task.outputs, path.name)
