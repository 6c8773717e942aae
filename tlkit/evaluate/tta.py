"""Test-time augmentation: answers averaged over an image and its mirror image."""

from __future__ import annotations

from collections.abc import Callable

import keras

from tlkit.errors import SpecError, received
from tlkit.progress import Progress

Flip = Callable[[keras.KerasTensor], keras.KerasTensor]

FLIP = "flip"
"""The one kind there is."""


def asked_tta(tta: str | None, views: int | None, progress: Progress) -> bool:
    """Tell whether answers are to be averaged over an image and its mirror image.

    Args:
        tta: `flip`, or None.
        views: what an earlier version called it: 2, or 1 for None.

    Raises:
        SpecError: anything else.
    """
    if views is not None:
        progress.say("note", "views is called tta from this version on: views=2 is tta=flip")
        if tta is not None or views not in (1, 2):
            raise SpecError(
                "views: is called tta. Allowed: tta=flip (the image and its mirror image), or left "
                f"out. Received: {received(views)}{'' if tta is None else f' and tta={tta}'}"
            )
        return views == 2
    if tta not in (None, FLIP):
        raise SpecError(
            "tta: Allowed: flip (answers are averaged over an image and its mirror image), or left "
            f"out. Received: {received(tta)}"
        )
    return tta == FLIP


def averaging(model: keras.Model, tta: bool, mirror: bool, flip: Flip) -> keras.Model:
    """Return `model`, or with `tta` one that answers by the mean over an image and its mirror image
    (Krizhevsky et al. 2012, section 4.1, who average over crops as well), in twice the time.

    Args:
        model: images (n, height, width, 3) in, answers (n, outputs) out; its layers are shared.
        mirror: whether a mirrored image may be of the same class.
        flip: mirrors the answers to mirrored images back.

    Raises:
        SpecError: `tta` where `mirror` is false.
    """
    if not tta:
        return model
    if not mirror:
        raise SpecError(
            "tta: flip mirrors images, which this run excludes (mirror: false). Allowed: left out. "
            "Received: flip"
        )
    images = keras.Input(model.input_shape[1:])
    mirrored = keras.ops.flip(images, axis=2)
    answers = keras.layers.Average(dtype="float32")([model(images), flip(model(mirrored))])
    return keras.Model(images, answers)
