"""How stored samples become the RGB 0-255 that a network sees: transparency, 16 bits, resizing.

A `Rendering` belongs to a run, since its model has learnt what such images look like: it stands
resolved in `spec.yaml`, and training, evaluation, prediction and the exported graph follow it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tlkit.data.pictures.placement import STRETCH

BITS = (8, 10, 12, 14, 16)
"""Bits of a sample that cameras, scanners and microscopes deliver in files of 16 bits: DICOM's
usual values of Bits Stored (PS3.3, C.7.6.3) and what image sensors convert to."""

BLOCK = 2**24
"""Values of an image above which it is blended row by row: as a whole it would take several times
the memory of the decoded image."""


class Rendering(NamedTuple):
    """How samples become RGB.

    Attributes:
        alpha: what stands behind transparent pixels, `white` (as in every viewer) or `black`;
            `drop`: nothing, the colour that is stored under them is shown.
        bits: how many low bits of a 16-bit sample are used, one of `BITS`; what lies above is
            clipped to white. 16: the whole range. None where it is not decided yet: each image
            by its own largest sample.
        fit: how an image is brought to the size of the network's input, see `placement`.
    """

    alpha: str = "white"
    bits: int | None = 16
    fit: str = STRETCH

    @property
    def top(self) -> int:
        """The largest 16-bit sample that is not clipped."""
        return 2 ** (self.bits or 16) - 1

    @property
    def ground(self) -> int:
        """The level of all three channels behind an image."""
        return 255 if self.alpha == "white" else 0


PLAIN = Rendering()
"""On white, 16 bits by their upper byte: the default where no run says otherwise."""

UNDECIDED = Rendering(bits=None)
"""On white, bits by the data: what a run starts from unless told otherwise."""


def rendering_of(spec: Any) -> Rendering:
    """Return what a `RunSpec` says of it."""
    return Rendering(spec.alpha, None if spec.bits == "auto" else spec.bits, spec.resize)


def smallest_bits(largest: int) -> int:
    """Return the least of `BITS` that holds the sample `largest`, 0 to 65,535."""
    return next(bits for bits in BITS if largest < 2**bits)


def blend(image: tf.Tensor, rendering: Rendering) -> tf.Tensor:
    """Return uint8 (height, width, 3) of RGBA (height, width, 4), uint8 or, of 16 bits, uint16.

    Alpha is taken by its upper byte. Rounded to the nearest level, as Pillow's `alpha_composite`.
    """

    def blended(part: tf.Tensor) -> tf.Tensor:
        colours, alpha = part[..., :3], part[..., 3:]
        if part.dtype == tf.uint16:
            top, shift = rendering.top, (rendering.bits or 16) - 8
            colours = tf.bitwise.right_shift(tf.minimum(colours, top), tf.cast(shift, tf.uint16))
            alpha = tf.bitwise.right_shift(alpha, tf.constant(8, tf.uint16))
        if rendering.alpha == "drop":
            return tf.cast(colours, tf.uint8)
        # At most 255 x 255 + 128 + 254: it fits into 16 bits. (x + 128) / 255 by shifts: Blinn
        # 1995, "Three Wrongs Make a Right", IEEE Computer Graphics and Applications 15 (6).
        colours, alpha = tf.cast(colours, tf.uint16), tf.cast(alpha, tf.uint16)
        eight = tf.constant(8, tf.uint16)
        mixed = colours * alpha + (255 - alpha) * rendering.ground + 128
        mixed = tf.bitwise.right_shift(mixed + tf.bitwise.right_shift(mixed, eight), eight)
        return tf.cast(mixed, tf.uint8)

    def by_rows() -> tf.Tensor:
        spec = tf.TensorSpec((None, 3), tf.uint8)
        return tf.map_fn(blended, image, fn_output_signature=spec, parallel_iterations=1)

    image = tf.ensure_shape(image, (None, None, 4))
    return tf.cond(tf.size(image) > BLOCK, by_rows, lambda: blended(image))


def blend_array(image: np.ndarray, rendering: Rendering) -> np.ndarray:
    """Return (height, width, 3) of an array with 3 or 4 channels, as `blend` does.

    Args:
        image: uint8; uint16 with 4 channels, which becomes uint8; or float, 0 to 255.
    """
    if image.dtype in (np.uint8, np.uint16) and image.shape[-1] == 4:
        with tf.device("/CPU:0"):
            return _traced_blend(rendering)(tf.constant(image)).numpy()
    if image.shape[-1] == 3 or rendering.alpha == "drop":
        return image[..., :3]
    share = image[..., 3:] / 255
    return (image[..., :3] * share + rendering.ground * (1 - share)).astype(image.dtype)


@functools.cache
def _traced_blend(rendering: Rendering) -> tf.types.experimental.PolymorphicFunction:
    return tf.function(
        lambda image: blend(image, rendering), autograph=False, reduce_retracing=True
    )
