"""Localisation: the class of the one object in an image, and the box around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from tlkit.backbones.sides import Size
from tlkit.data.annotations import Annotations
from tlkit.data.balance import inverse_frequency
from tlkit.data.box_targets import BoxTargets
from tlkit.data.boxes import Boxes
from tlkit.data.pictures.placement import STRETCH
from tlkit.spec.parts import HeadSpec
from tlkit.spec.run import RunSpec
from tlkit.tasks.box_drawing import draw_box
from tlkit.tasks.box_evaluator import LocatedObjects
from tlkit.tasks.box_frame import Frame
from tlkit.tasks.box_loss import Located, localisation_score
from tlkit.tasks.box_metrics import centred, inside, localisation_headline
from tlkit.tasks.classification import Classification
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.linear import shortened
from tlkit.tasks.pooled import PREDICTIONS, pooled, weights_of
from tlkit.tasks.task import BOX, HEAD_INPUT, Task

MOST_OWN = 20
"""Classes up to which each has weights of its own for the box: those of MobileNetV2 at 224 px take
1 MB a class."""

VIEWS_SOLVED = 4096
"""Images, views counted, of which the box is solved: memory grows with the square of it, time with
the third power."""

SOLVED, MAP_PASSES, CLASS_PASSES = 5, 10, 1_000
"""L2 strengths that are tried; passes over the standardised map and over the pooled features, set
to give the time that these parts took: MobileNetV2, 4,024 views, about 5 s and 8 s on two shared
cores."""

SURE = 20.0
"""Bias of the sigmoid that answers where there is one class alone: it is that."""


def map_scale(numbers: int) -> float:
    """Return by what the numbers of a flattened map are multiplied before the box is read off.

    Its weights are larger by as much, and a step of the usual rates moves the box by what it moves
    the output of a narrow layer (the parametrisation of Jacot et al. 2018, section 2). Else one
    step of Adam at 1e-4 on 62,720 numbers moves it by some deviations.
    """
    return 1 / math.sqrt(numbers)


@dataclass(frozen=True)
class Localisation(Task):
    """Outputs are rows (n, classes + 4): probabilities of the classes, then cx, cy, log w, log h of
    the box, as fractions of what the model sees.

    The network answers in standard deviations from the mean of the training boxes; a layer behind
    it turns that back, inside the graph.

    Attributes:
        size, resize: of the network's input, and how images are brought to it, see `placement`.
        mean, scale: of cx, cy, log w, log h of the training boxes.
    """

    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    size: Size = 0
    resize: str = STRETCH
    name: ClassVar[str] = "localisation"
    labels: ClassVar[type] = BoxTargets
    metric: ClassVar[str] = "localisation_score"
    solver: ClassVar[str] = "located"
    answers: ClassVar[str] = "outputs"
    fields: ClassVar[tuple[str, ...]] = ("label", "score", "box", "probabilities")
    val_figures: ClassVar[tuple[str, ...]] = ("accuracy", "mean_iou", "localisation_accuracy")
    keeps_views: ClassVar[bool] = True
    roams: ClassVar[bool] = True
    drawable: ClassVar[bool] = True

    @classmethod
    def of(cls, outputs: tuple[str, ...], spec: RunSpec) -> Localisation:
        return cls(outputs, size=spec.size, resize=spec.resize)

    @property
    def classes(self) -> int:
        return len(self.outputs)

    @property
    def numbers(self) -> int:
        return len(self.outputs) + 4

    @property
    def own_boxes(self) -> int:
        """Of how many classes the network answers with a box each; 1: with one for all."""
        return self.classes if self.classes <= MOST_OWN else 1

    @property
    def classifier(self) -> Classification:
        """The part of this task that names the class."""
        return Classification(self.outputs)

    @classmethod
    def copies(cls, examples: int) -> int:
        """Return eight, down to five where there are many images: where objects are is learnt by
        heart of plain images alone.

        Measured with MobileNetV2, solved on 503 images of three classes, seed 0, mean IoU on
        validation images and on copies of them set smaller at random places: 0.849 and 0.783 with
        5 views, 0.846 and 0.792 with 8.
        """
        return max(5, min(8, VIEWS_SOLVED // max(1, examples)))

    @classmethod
    def solving(cls, views: int, shape: tuple[int, ...]) -> tuple[int, int]:
        """Count the kernel's lower half and `SOLVED` Cholesky factors with their inverses (n^3 / 3
        multiply-adds each: Golub & Van Loan 2013, section 4.2), in double precision and on one
        thread, hence four times; the map is read `MAP_PASSES` times, what the class is read off
        `CLASS_PASSES` times."""
        rows, numbers = min(views, VIEWS_SOLVED), math.prod(shape)
        products = rows**2 * numbers // 2 + 4 * SOLVED * rows**3 // 3
        return products, MAP_PASSES * rows * numbers + CLASS_PASSES * views * shape[-1]

    def fit(self, targets: Boxes) -> Localisation:
        """Return this task with mean and deviation of the training boxes."""
        boxes = centred(targets[:][:, 1:])
        scale = np.maximum(boxes.std(axis=0), 1e-3)  # boxes that are all alike need no scaling
        return replace(
            self,
            mean=tuple(map(float, boxes.mean(axis=0))),
            scale=tuple(map(float, scale)),
        )

    def encode(self, labels: Sequence[Annotations]) -> Boxes:
        index = {label: i for i, label in enumerate(self.outputs)}
        rows = [
            (index[box.name], *(x / side for x, side in zip(box.corners, sides, strict=True)))
            for label in labels
            for box, sides in [(label.boxes[0], (label.width, label.height) * 2)]
        ]
        sizes = np.array([(label.height, label.width) for label in labels], np.int64).reshape(-1, 2)
        rows = np.array(rows).reshape(-1, 5)
        rows[:, 1:] = self.frame.seen(rows[:, 1:], sizes)
        return Boxes(rows.astype(np.float32), sizes.astype(np.int32))

    @property
    def frame(self) -> Frame:
        """How boxes of the network's input become such of an image."""
        return Frame(self.size, self.resize)

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        """Return the boxes of targets (n, 5) as the layer `BOX` answers with them (n, 4)."""
        return (centred(targets[:, 1:]) - np.array(self.mean)) / np.array(self.scale)

    def unscaled(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes as in the model's output of what the layer `BOX` answers (n, 4)."""
        return boxes * np.array(self.scale) + np.array(self.mean)

    def assess(self, targets: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
        """Return loss and metric of the model's outputs."""
        truth, answer = (keras.ops.convert_to_tensor(x, "float32") for x in (targets, outputs))
        losses, scores = self.loss().call(truth, answer), localisation_score(truth, answer)
        return float(keras.ops.mean(losses)), float(keras.ops.mean(scores))

    def head(self, features: keras.KerasTensor, head: HeadSpec) -> keras.KerasTensor:
        x = keras.layers.Identity(name=HEAD_INPUT)(features)
        exact = {"dtype": "float32", **weights_of(head)}
        dense = keras.layers.Dense
        activation = "softmax" if self.classes > 1 else "sigmoid"  # Keras warns of one softmax
        named = dense(self.classes, activation=activation, name=PREDICTIONS, **exact)
        named = named(pooled(x, head, "head_pooled"))
        # Pooled features cannot say where: the box is read off the whole map.
        flat = keras.layers.Flatten(name="head_flat")(x)
        flat = keras.layers.Rescaling(
            map_scale(flat.shape[-1]), dtype="float32", name="head_scaled"
        )(flat)
        box = dense(4 * self.own_boxes, name=BOX, **exact)(flat)
        if self.own_boxes > 1:  # their mean, weighted by how probable each class is
            box = keras.layers.Reshape((-1, 4), dtype="float32", name="head_boxes")(box)
            box = keras.layers.Dot(1, dtype="float32", name="head_expected")([named, box])
        box = keras.layers.Rescaling(
            list(self.scale), list(self.mean), dtype="float32", name="head_units"
        )(box)
        both = keras.layers.Concatenate(dtype="float32", name="head_outputs")
        return both([named, box])

    def bias(self, targets: Boxes) -> np.ndarray:
        return self.classifier.bias(_named(targets)) if self.classes > 1 else np.array([SURE])

    def weights(self, targets: Boxes) -> np.ndarray:
        named = _named(targets)
        return inverse_frequency(np.bincount(named, minlength=len(self.outputs)))[named]

    def loss(self) -> keras.losses.Loss:
        return Located(name="loss")

    def keras_metric(self) -> keras.metrics.Metric:
        return keras.metrics.MeanMetricWrapper(localisation_score, name=self.metric)

    def score(self, loss: float, metric: float) -> tuple[float, ...]:
        """The mean of mean IoU and localisation accuracy; between equals the lower loss.

        Localisation accuracy is what counts, but moves in steps of one image of a small validation
        part and is blind above its threshold; the IoU tells such models apart.
        """
        return (round(metric, 6), -loss)

    def flip(self, outputs: Any) -> Any:
        at, ops = len(self.outputs), keras.ops
        return ops.concatenate(
            [outputs[:, :at], 1 - outputs[:, at : at + 1], outputs[:, at + 1 :]], axis=1
        )

    def answer(self, outputs: Any, sizes: Any) -> dict[str, Any]:
        box = inside(outputs[:, -4:], keras.ops)
        box = self.frame.of_image(box, keras.ops.cast(sizes, "int64"), keras.ops)
        sides = keras.ops.stack([sizes[:, 1], sizes[:, 0]], axis=1)
        return {
            self.answers: outputs,
            "probabilities": outputs[:, :-4],
            "box": box * keras.ops.tile(keras.ops.cast(sides, "float32"), (1, 2)),
        }

    def decode(self, row: np.ndarray, height: int, width: int) -> dict[str, Any]:
        named = self.classifier.decode(row[:-4])
        box = inside(row[None, -4:].astype(np.float64), np)
        box = self.frame.of_image(box, np.array([[height, width]]))[0]
        box = box * (width, height, width, height)
        return {
            "label": named["label"],
            "score": named["score"],
            "box": [round(float(x), 2) for x in box],
            "probabilities": named["probabilities"],
        }

    def describe(self, target: np.ndarray) -> str:
        return shortened(self.outputs[int(target[0])])

    def shown(self, image: np.ndarray, target: np.ndarray) -> np.ndarray:
        if target[1] < 0:
            return image
        height, width = image.shape[:2]
        return draw_box(image, target[1:] * (width, height, width, height))

    def overlay(self, image: np.ndarray, row: np.ndarray) -> np.ndarray:
        found = self.decode(row, *image.shape[:2])
        return draw_box(image, found["box"], f"{found['label']} {found['score']:.2f}")

    def evaluator(self) -> Evaluator:
        return LocatedObjects(self.outputs, self.decode, self.frame.of_image)

    def headline(self, metrics: dict[str, Any]) -> str:
        return localisation_headline(metrics)

    def to_json(self) -> dict[str, Any]:
        own = {"size": self.size, "resize": self.resize}
        return {**super().to_json(), "mean": list(self.mean), "scale": list(self.scale), **own}


def _named(targets: Boxes) -> np.ndarray:
    return targets[:][:, 0].astype(np.int64)
