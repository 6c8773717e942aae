"""What a task has to say: how targets are written, what is minimised, what is measured.

Training, evaluation and export know a task by this alone. A new one is one file here, one row of
`registry.TASKS`, and the readers that give examples with labels of its kind
(`tlkit.data.readers.open.READERS`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.backbones.sides import Size
from tlkit.data.balance import UNBALANCED, Balance
from tlkit.data.column import Column
from tlkit.data.targets import Targets
from tlkit.errors import SpecError
from tlkit.spec.parts import HeadSpec
from tlkit.spec.run import RunSpec
from tlkit.tasks.decisions import Decision
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.shown import Answers, Figure, Shown, metric_tables

HEAD_INPUT = "head_pool"
"""The first layer of every head. It has no weights, so what the backbone gives is kept at its
output. (Heads of all tasks so far began with a pooling; models that were saved have the name.)"""

BOX = "head_box"
"""The layer that answers with a box, where a head has such."""

FIGURES = 5
"""Numbers at the top of a report."""


@dataclass(frozen=True)
class Task(ABC):
    """One kind of question about an image.

    Attributes:
        outputs: names of the classes, labels or numbers, in the order of the model's outputs.
        name: as in the spec.
        labels: how the labels of examples are read, named, counted, stratified and checked.
        called: what the outputs are called.
        metric: the metric shown beside the loss while training; `loss`: there is none.
        answers: what the model's output is called in an export.
        fields: keys of `decode`'s result.
        solver: what kind of convex problem the head is; empty: none that can be solved, it is
            fitted. For the kinds see `solver.solve` (one layer on pooled features:
            `linear.LinearTask`) and `solver.located` (that and a box from the whole map).
        mixes: which of `mixup` and `cutmix` make sense: targets then are what `soften` returns.
        row_an_image: whether `predictions.csv` has a row for each image, in order, that `figures`,
            `parts` and `image_scores` read.
        paired: see `image_scores`.
        keeps_views: whether an image that is mirrored, cropped or turned keeps its target, or the
            target goes with it.
        strides: of the levels of the pyramid (`Built.pyramid`) that the head reads; empty: it reads
            the backbone's last feature map.
        maps: whether an answer is a map of classes, see `mapping.MapTask`.
        drawable: whether an answer can be drawn over its image, see `overlay`.
        roams: whether changed training images are set, smaller, at random places as well, since the
            place of an object is what is asked for.
        val_figures: keys of `Evaluator.result` that `metrics.json` has of the validation part too,
            beside loss and metric.
        pools: whether the head begins with a pooling, so that what is kept for it is small.
        calibrates: whether a temperature may be fitted, see `probabilities.ProbabilityTask`.
        ranks_whole: whether the metric is of a whole part, and no mean over batches: it is what
            `finding.FindingTask.whole_metric` returns of all answers to it.
        finds: whether an answer is any number of objects, see `finding.FindingTask`.
        hub: the task's name on the Hugging Face Hub (`pipeline_tag`); empty: it has none.
    """

    outputs: tuple[str, ...]
    name: ClassVar[str]
    labels: ClassVar[type[Targets]]
    called: ClassVar[str] = "classes"
    metric: ClassVar[str] = "loss"
    answers: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    solver: ClassVar[str] = ""
    row_an_image: ClassVar[bool] = False
    paired: ClassVar[str] = ""
    mixes: ClassVar[frozenset[str]] = frozenset()
    keeps_views: ClassVar[bool] = False
    strides: ClassVar[tuple[int, ...]] = ()
    maps: ClassVar[bool] = False
    drawable: ClassVar[bool] = False
    roams: ClassVar[bool] = False
    val_figures: ClassVar[tuple[str, ...]] = ()
    pools: ClassVar[bool] = False
    calibrates: ClassVar[bool] = False
    ranks_whole: ClassVar[bool] = False
    finds: ClassVar[bool] = False
    hub: ClassVar[str] = ""

    @property
    def classes(self) -> int:
        """How many classes there are of which an image is of exactly one; 0: it is no such task."""
        return 0

    @property
    def numbers(self) -> int:
        """How many numbers the last axis of the model's output has."""
        return len(self.outputs)

    @classmethod
    def of(cls, outputs: tuple[str, ...], spec: RunSpec) -> Task:
        """Return the task of a run."""
        return cls(outputs)

    @classmethod
    def copies(cls, examples: int) -> int:
        """Return of how many views of each training image features are kept unless asked otherwise,
        of so many training images."""
        return 1

    @classmethod
    def input_size(
        cls, labels: Sequence[Any], resize: str, asked: Size | None = None
    ) -> tuple[Size, str] | None:
        """Return the size of the model's input that the labels of the training part ask for unless
        another is `asked` for, and what a person must know of it; None: it is the backbone's own.
        """
        return None

    @classmethod
    def solving(cls, views: int, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return what solving the head takes beside what every head does: multiply-adds, and
        numbers that are read or written.

        Args:
            views: of training images, in all.
            shape: of the feature map (height, width, channels).
        """
        return 0, 0

    def fit(self, targets: Column) -> Task:
        """Return this task with what it has to know of the training targets."""
        return self

    @abstractmethod
    def encode(self, labels: Sequence[Any]) -> Column:
        """Turn the labels of examples into the target column, one row each."""

    @abstractmethod
    def head(self, features: Any, head: HeadSpec) -> keras.KerasTensor:
        """Put the head on a feature map (batch, height, width, channels).

        Its first layer is called `HEAD_INPUT` and has no weights; the others have names that begin
        with `head_`, or are called `predictions`. Built-in layers only, and one output tensor. A
        task with `strides` gets a map for each of them that there is, by stride, and needs no layer
        called `HEAD_INPUT`: what the head reads is kept.
        """

    def bias(self, targets: Column) -> np.ndarray | None:
        """Return the bias of the layer `predictions` that answers, without looking, as the targets
        are spread; None: zeros."""
        return None

    def soften(self, targets: np.ndarray) -> np.ndarray:
        """Return targets float32 (n, outputs) that may be mixed; `loss` takes them as well."""
        return targets

    def balance(self, targets: Column, kind: str) -> Balance:
        """Return what is done about imbalance in training; nothing where there is none.

        Args:
            targets: of the training images.
            kind: `none`, `weights` or `sampling`, as in the spec.
        """
        if kind == "none":
            return UNBALANCED
        found = self.weights(targets) if kind == "weights" else self.draws(targets)
        if np.all(found == 1):
            return UNBALANCED
        found = found.astype(np.float32)
        return Balance(weights=found) if kind == "weights" else Balance(draws=found)

    def weights(self, targets: Column) -> np.ndarray:
        """Return weights on the loss, for each image or each label of it; 1 without classes."""
        return np.ones(len(targets))

    def draws(self, targets: Column) -> np.ndarray:
        """Return how often each image is drawn in an epoch, on average."""
        return self.weights(targets)

    @abstractmethod
    def loss(self) -> Any:
        """Return the loss of fitted phases."""

    def uninformed_loss(self) -> keras.losses.Loss | None:
        """Return the loss against a target that says nothing; None: it cannot be smoothed."""
        return None

    def keras_metric(self) -> keras.metrics.Metric | None:
        """Return the metric of fitted phases, under the name `metric`; None: the loss ranks."""
        return None

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """Return the key by which models are ranked, from validation loss and metric; higher is
        better."""
        return (-loss,)

    def tuned(self, answered: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Task:
        """Return this task with what is chosen on the validation part.

        Args:
            answered: returns targets and outputs of that part, which takes a pass over it.
        """
        return self

    def decided(self, asked: Decision, found: Any) -> Task:
        """Return this task with a way to decide by probabilities.

        Args:
            found: the run's `calibration.Calibration`, by whose images it is chosen.

        Raises:
            SpecError: it has no meaning for the task, or cannot be chosen.
        """
        for name, value in asked.given().items():
            several = f" of {self.classes} classes" if self.classes else ""
            raise SpecError(
                f"{name}: has no meaning for the task {self.name}{several}. Allowed: left out. "
                f"Received: {value}"
            )
        return self

    def said(self) -> list[tuple[str, str]]:
        """Return what a person must know of how answers are decided: lines of a word and a text."""
        return []

    def flip(self, outputs: Any) -> Any:
        """Mirror the answers (n, ...) to mirrored images back, left to right."""
        return outputs

    @abstractmethod
    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        """Return what an export gives, by name, of the model's outputs (n, ...): numbers alone, in
        `keras.ops`. `outputs` itself is there as `answers`; where there are `probabilities` (n,
        outputs), the export adds the name and the score of the largest.

        Args:
            sizes: int32 (n, 2), height and width of the original images in pixels, upright.
        """

    def agreement(self, expected: np.ndarray, got: np.ndarray) -> float:
        """Return how far two series of outputs (n, ...) say the same, 1 at best.

        Tasks that name something give the fraction of images named alike. Of numbers it is the
        coefficient of determination, 1 - sum of squared differences / sum of squares around the
        mean, the lowest of all outputs (last axis).
        """
        rows, others = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (expected, got))
        missed = np.square(rows - others).sum(axis=0)
        spread = np.square(rows - rows.mean(axis=0)).sum(axis=0)
        share = np.where(spread > 0, missed / np.where(spread > 0, spread, 1), missed > 0)
        return float((1 - share).min())

    @abstractmethod
    def decode(self, row: np.ndarray, height: int, width: int) -> dict[str, Any]:
        """Turn one row of the model's output into the fields of a prediction.

        Args:
            height, width: of the original image in pixels, upright: what is said of places in it is
                said in its own pixels.
        """

    def overlay(self, image: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return an upright image uint8 (height, width, 3) with a row of the model's output drawn
        over it; of tasks that are `drawable`."""
        raise NotImplementedError

    def shown(self, image: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return an image (size, size, 3), 0-255, with its target drawn over it."""
        return image

    def describe(self, target: np.ndarray) -> str:
        """Return a target, mixed ones too, in words that stand under its image; "": in none."""
        return ""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Return what measures answers on one part of the data."""

    @abstractmethod
    def headline(self, metrics: dict[str, Any]) -> str:
        """Return what a person wants to know first of `Evaluator.result`, in a line."""

    def figures(self, metrics: dict[str, Any], answers: Answers | None) -> list[Figure]:
        """Return the numbers that stand at the top of a report, those of `metrics`.

        Args:
            metrics: of `Evaluator.result`.
            answers: what they are of; None where that is not known any more, or is not asked for.
        """
        numbers = [(name, x) for name, x in metrics.items() if isinstance(x, int | float)]
        return [Figure(name.replace("_", " "), x) for name, x in numbers[:FIGURES]]

    def parts(self, metrics: dict[str, Any], answers: Answers | None) -> list[Shown]:
        """Return what a report shows of the answers to the test part, in order; see `figures`."""
        return metric_tables(metrics)

    def image_scores(self, answers: Answers) -> np.ndarray | None:
        """Return one number for each image (n,) by which runs are compared pair by pair, whose
        mean is called `paired`: 1 right, 0 wrong, or an error. None: there is none."""
        return None

    def explained(self, row: np.ndarray) -> int | None:
        """Return the output that a map of an answer `row` (outputs,) explains unless another is
        asked for; None: it has to be."""
        return None

    def to_json(self) -> dict[str, Any]:
        """Return what `task_from_json` needs to make this task again for predicting."""
        return {"task": self.name, "outputs": list(self.outputs)}
