"""Images made small, for a person to look at."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from tlkit.data.example import Example, content_digest
from tlkit.data.pictures.decode import UNDECODABLE, decode
from tlkit.data.pictures.header import is_deep, read_header
from tlkit.data.pictures.rendering import Rendering, blend_array

PLAIN_MODES = ("L", "RGB")
"""Modes of a file that Pillow shows as `decode` does; others, such as CMYK, are left to that."""

QUICK = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n")
"""How files of JPEG and PNG begin, which Pillow decodes in a tenth of the time of eager TensorFlow:
a thumbnail of each of some hundred images is wanted."""


def thumbnail(
    example: Example, rendering: Rendering, side: int, digest: str = ""
) -> Image.Image | None:
    """Return an image as training sees it, neither side above `side` pixels.

    Args:
        digest: content hash that it must have; empty: any.

    Returns:
        None: it cannot be read any more, or has changed.
    """
    try:
        content = None if example.pixels is not None else example.read()
        if digest and digest != (example.digest or content_digest(content or example.read())):
            return None
        image = _by_pillow(content, side) if content is not None else None
        if image is None:
            pixels = (
                blend_array(example.pixels, rendering).astype("uint8")
                if content is None
                else decode(tf.constant(content), rendering).numpy()
            )
            image = Image.fromarray(np.ascontiguousarray(pixels))
    except (OSError, SyntaxError, ValueError, *UNDECODABLE):
        return None
    image.thumbnail((side, side))
    return image


def _by_pillow(content: bytes, side: int) -> Image.Image | None:
    """Return a plain JPEG or PNG, upright; None: it is none, or its pixels ask for a `Rendering`.

    libjpeg scales while it decodes, which takes a tenth of the time for a photograph.
    """
    header = read_header(content)
    large = header.width * header.height > Image.MAX_IMAGE_PIXELS  # Pillow would warn
    if not content.startswith(QUICK) or is_deep(content) or large:
        return None
    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
        if image.mode not in PLAIN_MODES or "transparency" in image.info:
            return None
        image.draft("RGB", (2 * side, 2 * side))
        return ImageOps.exif_transpose(image).convert("RGB")
