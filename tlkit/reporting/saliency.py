"""Where in an image an answer comes from: class activation maps, and Grad-CAM.

CAM (Zhou et al. 2016, section 2): with a linear layer on average-pooled features an answer is a sum
over places, whose terms are the map: no gradient is taken, so that it is exact and any backend
gives it. With any other head Grad-CAM (Selvaraju et al. 2017, section 3): channels are weighed by
the mean gradient of the answer; with that head it is CAM divided by the number of places.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from PIL import Image

from tlkit.backbones.graph import calls
from tlkit.backbones.sides import Size, sides
from tlkit.data.pictures.placement import placement
from tlkit.errors import RunFolderError, SpecError
from tlkit.tasks.pooled import PREDICTIONS

LONGEST = 1024
"""Longest side of an overlay in pixels."""

OPACITY = 0.65
"""Of the colour where the map is highest; where it is zero the image stays as it is."""

THROUGH = ("Maximum", "Power", "Cast")
"""Operations of a head on a map, before it is pooled (generalised mean): see `pooled`."""


@dataclass(frozen=True)
class Saliency:
    """What gives maps of a model.

    Attributes:
        network: images (n, size, size, 3) to the last map (n, height, width, channels) and the
            answers (n, outputs).
        head: from that map to what the layer `predictions` reads (n, features).
        kernel: of that layer (features, outputs).
        linear: whether the head pools by the mean and does no more, so that CAM is exact.
    """

    network: keras.Model
    head: keras.Model
    kernel: np.ndarray
    linear: bool

    @property
    def method(self) -> str:
        return "CAM" if self.linear else "Grad-CAM"

    def answer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return last maps float32 (n, height, width, channels) and answers (n, outputs)."""
        maps, outputs = self.network.predict_on_batch(images)
        return np.asarray(maps, np.float32), np.asarray(outputs, np.float32)

    def maps(self, features: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return what speaks for an output at each place, float32 (n, height, width), 0 to 1.

        Args:
            features: the last maps, from `answer`.
            chosen: the number of the output that is explained of each image (n,).

        Returns:
            Divided by its highest value; all 0 where nothing speaks for the output.
        """
        weights = self.kernel.T[chosen] if self.linear else self.gradients(features, chosen)
        return _normalised(np.einsum("nhwc,nc->nhw", features, weights))

    def gradients(self, features: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return the mean gradient of each chosen output along the channels (n, channels).

        Raises:
            SpecError: the backend is not TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise SpecError(
                "explain: a head that is not linear on average pooling needs gradients, which "
                "are taken with TensorFlow. Allowed: KERAS_BACKEND=tensorflow. Received: "
                f"{keras.backend.backend()}"
            )
        from tlkit.reporting.gradients import mean_gradients

        return mean_gradients(self.head, self.kernel, features, chosen)


def saliency(model: keras.Model) -> Saliency:
    """Return what gives maps of a run's model.

    Raises:
        RunFolderError: it has no layer `predictions` on pooled features, or its last map has one
            place alone.
    """
    layer = next((each for each in model.layers if each.name == PREDICTIONS), None)
    if not isinstance(layer, keras.layers.Dense) or len(layer.input.shape) != 2:
        raise RunFolderError(
            "explain: the model has no linear layer on pooled features, so that no map shows where "
            "an answer comes from. Allowed: runs of classification, multilabel and regression"
        )
    last, between = _last_map(model, layer.input)
    if last.shape[1:3] == (1, 1):
        raise RunFolderError(
            f"explain: the last feature map of {model.input_shape[1]} x {model.input_shape[2]} "
            "pixels is 1 x 1: it tells no places apart. Allowed: a run with a larger --image-size"
        )
    kinds = {type(operation).__name__ for operation in between}
    return Saliency(
        keras.Model(model.input, [last, model.output]),
        keras.Model(last, layer.input),
        np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32),
        kinds <= {"GlobalAveragePooling2D", "Dropout"},
    )


def _last_map(
    model: keras.Model, pooled: keras.KerasTensor
) -> tuple[keras.KerasTensor, list[keras.Operation]]:
    """Return the last map that a head reads, and the operations from there to `pooled`."""
    operations = {operation.name: operation for operation in model.operations}
    makers = {
        id(tensor): (operations[name], inputs)
        for name, (inputs, outputs) in calls(model).items()
        for tensor in outputs
    }
    found, between, waiting = {}, [], [pooled]
    while waiting:
        tensor = waiting.pop()
        operation, inputs = makers[id(tensor)]
        if len(tensor.shape) == 4 and type(operation).__name__ not in THROUGH:
            found[id(tensor)] = tensor
        else:
            between.append(operation)
            waiting += inputs
    (last,) = found.values()
    return last, between


def _normalised(maps: np.ndarray) -> np.ndarray:
    """Return what is above zero, divided by the highest value of each map."""
    maps = np.maximum(maps, 0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return (maps / np.where(highest > 0, highest, 1)).astype(np.float32)


def overlay(pixels: np.ndarray, heat: np.ndarray, size: Size, fit: str) -> Image.Image:
    """Return an image with a map laid over it.

    Args:
        pixels: uint8 (height, width, 3).
        heat: float32 (rows, columns), 0 to 1, of what the model sees.
        size, fit: of that, and how the image was brought to it.
    """
    from matplotlib import colormaps

    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONGEST, LONGEST))
    heat = over_image(heat, pixels.shape[:2], image.size[::-1], size, fit)
    colour = colormaps["turbo"](heat)[..., :3] * 255
    weight = OPACITY * heat[..., None]
    mixed = np.asarray(image, np.float32) * (1 - weight) + colour * weight
    return Image.fromarray(mixed.round().astype(np.uint8))


def over_image(
    heat: np.ndarray, shape: tuple[int, int], wanted: tuple[int, int], size: Size, fit: str
) -> np.ndarray:
    """Return what of a map lies over the image itself, without the bars of a letterbox.

    Args:
        heat, size, fit: see `overlay`.
        shape: height and width of the image.
        wanted: height and width of what is returned, 0 to 1.
    """
    top, left, height, width = placement(*shape, size, fit)
    rows, columns = sides(size)
    per = heat.shape[1] / columns, heat.shape[0] / rows
    box = (left * per[0], top * per[1], (left + width) * per[0], (top + height) * per[1])
    large = Image.fromarray(heat).resize(wanted[::-1], Image.Resampling.BICUBIC, box)
    return np.clip(np.asarray(large), 0, 1)
