"""Test-time views: answers averaged over an image and its mirror image."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tlkit.errors import SpecError

Flip = Callable[[keras.KerasTensor], keras.KerasTensor]


def averaging(model: keras.Model, views: int, mirror: bool, flip: Flip) -> keras.Model:
    """Return `model`, or for two views one that answers by the mean of both (Krizhevsky et al.
    2012, section 4.1, who average over crops as well), in twice the time.

    Args:
        model: images (n, height, width, 3) in, answers (n, outputs) out; its layers are shared.
        views: 1 or 2.
        mirror: whether a mirrored image may be of the same class.
        flip: mirrors the answers to mirrored images back.

    Raises:
        SpecError: other numbers of views, or two where `mirror` is false.
    """
    if views not in (1, 2):
        raise SpecError(
            "views: 1 (the image as it is) or 2 (also mirrored) when a model answers. "
            f"Received: {views}"
        )
    if views == 1:
        return model
    if not mirror:
        raise SpecError(
            "views: 2 mirrors images, which this run excludes (mirror: false). Allowed: 1. "
            "Received: 2"
        )
    images = keras.Input(model.input_shape[1:])
    mirrored = keras.ops.flip(images, axis=2)
    answers = keras.layers.Average(dtype="float32")([model(images), flip(model(mirrored))])
    return keras.Model(images, answers)
