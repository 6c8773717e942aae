"""The one image decoder of tlkit: training, prediction and the exported SavedModel share it.

All that takes a tensor is TensorFlow graph code without Python callbacks, so it runs in eager mode,
under `tf.data`, in `tf.map_fn` and in a SavedModel, and answers the same pixels in each. Of JPEG
the accurate integer transform is taken, which is what Pillow shows; palettes are looked up;
transparent pixels and 16-bit samples are shown as a `Rendering` says, by default on white and by
their upper byte; of an animation the first frame counts; the EXIF orientation is applied. The
fourth byte of a 32-bit BMP is no alpha: most writers leave it 0. An image of more than
`MAX_PIXELS` pixels by its header is refused before it is decoded.

Example:
    >>> image = decode(tf.io.read_file("rose.jpg"))      # uint8 (height, width, 3), RGB
    >>> resize(image, 224)                               # float32 (224, 224, 3), 0 to 255
    >>> why_undecodable(b"no image")
    "not an image: starts with b'no image'"
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.backbones.sides import Size, sides
from tlkit.data.pictures import exif
from tlkit.data.pictures import gif_bmp_webp as pixels
from tlkit.data.pictures.exif import apart
from tlkit.data.pictures.header import (
    FORMATS,
    MAGIC,
    MAGIC_LENGTH,
    Header,
    damaged,
    is_deep,
    read_header,
)
from tlkit.data.pictures.placement import BARS, LETTERBOX, STRETCH, placement
from tlkit.data.pictures.rendering import PLAIN, Rendering, blend_array

_EXIF = re.compile(rb"exif", re.IGNORECASE)
"""In the sign of EXIF in each format that may hold it: `Exif` in JPEG, `eXIf` in PNG, `EXIF`."""

UNDECODABLE = (tf.errors.OpError, UnicodeDecodeError)
"""What decoding raises. The latter: some messages quote the file, which need not be UTF-8."""


def decode(encoded: tf.Tensor, rendering: Rendering = PLAIN) -> tf.Tensor:
    """Decode an image and turn it upright.

    Args:
        encoded: the file's bytes, a scalar string tensor: JPEG, PNG, GIF, BMP or WebP, recognised
            by its first bytes, whatever its name says.
        rendering: how transparency and 16-bit samples are shown.

    Returns:
        A uint8 tensor (height, width, 3), RGB, 0 to 255.

    Raises:
        tf.errors.InvalidArgumentError: when run, for another format, a damaged file, or one
            of more than `MAX_PIXELS` pixels.
    """
    # Strings live on the CPU; left to the placer, each small integer of the walk through the
    # file would travel to the GPU and back.
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        return exif.apply_orientation(_pixels(encoded, rendering), orientation(encoded))


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of an encoded image (tag 0x0112, CIPA DC-008).

    Args:
        encoded: the file's bytes, a scalar string tensor.

    Returns:
        An int32 scalar from 1 to 8; 1 (upright) without EXIF, or with EXIF that is broken.
    """
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        return _by_format(encoded, _ORIENTATIONS, lambda _: tf.constant(1, tf.int32))


_ORIENTATIONS = {
    "JPEG": exif.jpeg_orientation,  # nearly all there are: of the others a function each
    "PNG": apart(exif.png_orientation),
    "WebP": apart(exif.webp_orientation),
}


def resize(image: tf.Tensor, size: Any, fit: str = STRETCH) -> tf.Tensor:
    """Bring `image` to a size, bilinear with antialias: stretched, or letterboxed.

    Args:
        image: (height, width, 3), uint8 or float, 0 to 255.
        size, fit: see `sides` and `placement`; the size may be of int32 tensors.

    Returns:
        A float32 tensor (height, width, 3), 0 to 255 within rounding errors (255.0001 occurs).
    """
    return _between_bars(_resized(image, size, fit), size, fit)


def _resized(image: tf.Tensor, size: Any, fit: str) -> tf.Tensor:
    """Return `image` float32 at the height and width that it has within the size."""
    shape = sides(size)
    if fit == LETTERBOX:
        height, width, _ = tf.unstack(tf.shape(image, tf.int64))
        place = placement(height, width, tuple(tf.cast(x, tf.int64) for x in shape), fit)
        shape = tf.cast(tf.stack([place.height, place.width]), tf.int32)

    def resized(antialias: bool) -> tf.Tensor:
        # An image that has the size already comes back as it is, with its type.
        return tf.cast(tf.image.resize(image, shape, antialias=antialias), tf.float32)

    # Where nothing gets smaller, antialias changes values by rounding alone (3e-5), and takes three
    # times as long.
    grows = tf.reduce_all(tf.shape(image)[:2] <= tf.stack(sides(size)))
    return tf.cond(grows, lambda: resized(False), lambda: resized(True))


def _between_bars(image: tf.Tensor, size: Any, fit: str) -> tf.Tensor:
    """Set what `_resized` gave into the middle of its size."""
    height, width = sides(size)
    if fit == LETTERBOX:
        rows, columns, _ = tf.unstack(tf.shape(image))
        bars = tf.constant(BARS, tf.float32)
        place = (height - rows) // 2, (width - columns) // 2
        image = tf.image.pad_to_bounding_box(image - bars, *place, height, width) + bars
    known = (x if isinstance(x, int) else None for x in (height, width))
    return tf.ensure_shape(image, (*known, 3))


def decode_and_resize(encoded: tf.Tensor, size: Size, rendering: Rendering = PLAIN) -> tf.Tensor:
    """Return `resize(decode(encoded, rendering), size, rendering.fit)`, see `decode_sized`."""
    return decode_sized(encoded, size, rendering)[0]


def decode_sized(
    encoded: tf.Tensor, size: Size, rendering: Rendering = PLAIN
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return a resized image float32 (height, width, 3); height and width as it was int32 (2,).

    A resized image may as well be turned after it has become small, which spares a third of the
    time on a phone's portrait and changes no value by more than rounding (below 0.01). Raises as
    `decode`.
    """
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        pixels, turned = _pixels(encoded, rendering), orientation(encoded)
        height, width, _ = tf.unstack(tf.shape(pixels))
        lying = turned >= 5  # a quarter turn
        rows, columns = sides(size)
        as_stored = size
        if rows != columns:
            as_stored = tf.where(lying, columns, rows), tf.where(lying, rows, columns)
        small = exif.apply_orientation(_resized(pixels, as_stored, rendering.fit), turned)
        image = _between_bars(small, size, rendering.fit)
        upright = tf.stack([tf.where(lying, width, height), tf.where(lying, height, width)])
    return image, tf.ensure_shape(upright, (2,))


@functools.cache
def traced_decode_and_resize(
    size: Size, rendering: Rendering = PLAIN
) -> tf.types.experimental.PolymorphicFunction:
    """Return `decode_and_resize` for one size and rendering as a graph function, traced once.

    Every pipeline that traced it anew would take a second of computing before its first image.
    """
    return tf.function(
        functools.partial(decode_and_resize, size=size, rendering=rendering),
        [tf.TensorSpec((), tf.string)],
        autograph=False,
    )


def why_undecodable(encoded: bytes, header: Header | None = None) -> str | None:
    """Say why a file's bytes cannot be used; None if `decode` takes them.

    An image of more than `MAX_PIXELS` pixels is refused by its header and never decoded. May be
    called from several threads.

    Args:
        header: what `read_header` says of `encoded`, where it has been asked already.
    """
    header = header or read_header(encoded)
    if header.problem:
        return header.problem
    try:
        pixels_as_stored(encoded, header, PLAIN)
    except UNDECODABLE:
        return damaged(encoded, header.format)
    return None


def pixels_as_stored(encoded: bytes, header: Header, rendering: Rendering) -> np.ndarray:
    """Decode to uint8 (height, width, 3) without turning it upright; any number of threads may.

    Args:
        header: of `encoded`, without a problem: it is what holds the image within the limits.

    Raises:
        UNDECODABLE: a damaged file.
    """
    # These two, nearly all there are, need no graph: tracing it takes a second, and each call of it
    # is three times as slow. EXIF, however broken, makes no image unusable.
    plain = {"JPEG": pixels.jpeg_pixels, "PNG": pixels.png_pixels}.get(header.format)
    if header.format == "PNG" and (header.layered or header.deep):
        return blend_array(samples(encoded), rendering)
    with tf.device("/CPU:0"):
        content = tf.constant(encoded)
        return (plain or _graph_decoder(rendering))(content).numpy()


def upright_size(encoded: bytes, header: Header) -> tuple[int, int]:
    """Return height and width of the image that `decode` gives, in pixels.

    Args:
        header: of `encoded`.
    """
    lying = header.width != header.height and orientation_of(encoded) >= 5  # a quarter turn
    return (header.width, header.height) if lying else (header.height, header.width)


def orientation_of(encoded: bytes) -> int:
    """Return the EXIF orientation of a file, 1 to 8; may be called from several threads."""
    if not _EXIF.search(encoded):  # nearly all: the graph takes a second to trace
        return 1
    with tf.device("/CPU:0"):
        return int(_orientation_function()(tf.constant(encoded)))


def upright(image: np.ndarray, encoded: bytes) -> np.ndarray:
    """Turn what `pixels_as_stored` gave by the file's EXIF orientation."""
    with tf.device("/CPU:0"):
        turned = _orientation_function()(tf.constant(encoded))
        return exif.apply_orientation(tf.constant(image), turned).numpy()


def samples(encoded: bytes) -> np.ndarray:
    """Return a PNG's samples as stored, (height, width, 4): RGBA, uint8 or, of 16 bits, uint16.

    Raises:
        UNDECODABLE: a damaged file.
    """
    kind = tf.uint16 if is_deep(encoded) else tf.uint8
    with tf.device("/CPU:0"):
        return tf.io.decode_png(tf.constant(encoded), channels=4, dtype=kind).numpy()


def _by_format(encoded: tf.Tensor, branches: dict, otherwise) -> tf.Tensor:
    """Call the branch of the format that the first bytes tell, `otherwise` where there is none."""
    rows = [pattern.ljust(MAGIC_LENGTH, b"?") for pattern in (*MAGIC.values(), b"")]
    patterns = tf.constant([list(row) for row in rows], tf.uint8)
    octets = exif.integers(encoded, 0, MAGIC_LENGTH, tf.uint8)
    # The last row matches everything, so the first match is the format or the way out.
    matches = tf.reduce_all((octets == patterns) | (patterns == ord("?")), axis=1)
    index = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)
    calls = [branches.get(name, otherwise) for name in (*MAGIC, None)]
    return tf.switch_case(index, [functools.partial(call, encoded) for call in calls])


def _pixels(encoded: tf.Tensor, rendering: Rendering) -> tf.Tensor:
    """Decode to uint8 (height, width, 3) RGB as stored, the orientation not applied."""
    return tf.ensure_shape(_by_format(encoded, *_decoders(rendering)), (None, None, 3))


@functools.cache
def _decoders(rendering: Rendering) -> tuple[dict, Callable]:
    """Return what decodes each format, and what refuses all others."""
    by_format = {
        "JPEG": pixels.jpeg,
        "PNG": apart(functools.partial(pixels.png, rendering=rendering)),
        "GIF": apart(functools.partial(pixels.gif, rendering=rendering)),
        "BMP": apart(pixels.bmp),
        "WebP": apart(functools.partial(pixels.webp, rendering=rendering)),
    }
    return by_format, apart(_refuse)


def _refuse(encoded: tf.Tensor) -> tf.Tensor:
    # The bytes as numbers: as text they may be no UTF-8, and the message could not be read.
    octets = exif.integers(encoded, 0, 8, tf.uint8)
    message = ["Not an image that can be decoded, allowed:", ", ".join(FORMATS), "It starts with:"]
    refusal = tf.debugging.Assert(False, [*message, octets], summarize=8)
    with tf.control_dependencies([refusal]):
        return tf.zeros((0, 0, 3), tf.uint8)


_decoder_lock = threading.Lock()


def _graph_decoder(rendering: Rendering) -> tf.types.experimental.PolymorphicFunction:
    with _decoder_lock:
        return _traced_decoder(rendering)


def _orientation_function() -> tf.types.experimental.PolymorphicFunction:
    with _decoder_lock:
        return _traced_orientation()


@functools.cache
def _traced_orientation() -> tf.types.experimental.PolymorphicFunction:
    reader = tf.function(orientation, [tf.TensorSpec((), tf.string)], autograph=False)
    reader.get_concrete_function()
    return reader


@functools.cache
def _traced_decoder(rendering: Rendering) -> tf.types.experimental.PolymorphicFunction:
    as_stored = functools.partial(_pixels, rendering=rendering)
    decoder = tf.function(as_stored, [tf.TensorSpec((), tf.string)], autograph=False)
    decoder.get_concrete_function()
    return decoder
