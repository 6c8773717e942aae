"""GIF, BMP and WebP to RGB where TensorFlow's own decoders answer wrong pixels or none.

Graph code only, as `tlkit.data.decode` needs it. Each function takes the file's bytes as a scalar
string tensor and returns uint8 (height, width, 3), RGB; each raises
`tf.errors.InvalidArgumentError`, when run, for a damaged file.
"""

from __future__ import annotations

import tensorflow as tf

from tlkit.data.exif import integers, substring

# Pillow refuses to open more pixels than this as a decompression bomb: 2 x MAX_IMAGE_PIXELS, with
# MAX_IMAGE_PIXELS = 1 GiB / 4 / 3 (PIL/Image.py). As RGB it is half a gibibyte.
MAX_PIXELS = 178_956_970

# GIF89a specification, appendix A and sections 18, 20: an extension opens with 0x21 and a label, an
# image with 0x2C; the packed fields tell whether a palette follows and its size.
_EXTENSION, _IMAGE = 0x21, 0x2C
_HAS_PALETTE, _PALETTE_SIZE = 0x80, 0x07
_MAX_BLOCKS = 20_000  # bounds the time that a file of empty blocks can take


def gif(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the first frame of a GIF; what it leaves of the canvas is black.

    TensorFlow 2.21 makes the picture as large as the frame, not as the canvas, and cuts off what
    the frame's offset moves outside. So the frame is decoded with its offset set to 0 and put in
    its place on the canvas here.
    """
    canvas = _int32(encoded, 6, 4, tf.uint16)
    start = _first_image(encoded)
    left, top, width, height = tf.unstack(_int32(encoded, start + 1, 8, tf.uint16))
    total = tf.maximum(canvas, tf.stack([left + width, top + height]))
    message = ["GIF with too large a canvas:", total]
    with tf.control_dependencies(
        [tf.debugging.Assert(tf.reduce_prod(tf.cast(total, tf.int64)) <= MAX_PIXELS, message)]
    ):
        before = substring(encoded, 0, start + 1)
        after = substring(encoded, start + 5, tf.strings.length(encoded))
    moved = tf.strings.join([before, b"\0\0\0\0", after])
    frame = tf.io.decode_image(moved, channels=3, expand_animations=False)[:height, :width]
    right, bottom = total[0] - left - width, total[1] - top - height
    return tf.pad(frame, [[top, bottom], [left, right], [0, 0]])


def _first_image(encoded: tf.Tensor) -> tf.Tensor:
    """Return where the first image descriptor starts, or the length of a GIF without one."""
    size = tf.strings.length(encoded)
    packed = _int32(encoded, 10, 1, tf.uint8)[0]
    colours = tf.bitwise.left_shift(2, packed & _PALETTE_SIZE)
    start = 13 + tf.where(packed & _HAS_PALETTE > 0, 3 * colours, 0)

    def step(position, inside, _):
        """Step over an extension's two bytes or, inside one, over a block of data."""
        octet = _int32(encoded, position, 1, tf.uint8)[0]
        found = ~inside & (octet == _IMAGE)
        goes_on = inside | (octet == _EXTENSION)
        following = tf.where(inside, position + 1 + octet, position + 2)
        inside = tf.where(inside, octet > 0, octet == _EXTENSION)
        return tf.where(goes_on, following, tf.where(found, position, size)), inside, found

    position, _, found = tf.while_loop(
        lambda position, _, found: ~found & (position < size),
        step,
        (start, tf.constant(False), tf.constant(False)),
        parallel_iterations=1,
        maximum_iterations=_MAX_BLOCKS,
    )
    return tf.where(found, position, size)


def webp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode WebP: lossy, lossless, or the first frame of an animation.

    TensorFlow 2.21 draws every animation with 4 channels, but reserves room for 3 unless the VP8X
    header announces alpha: it refuses such a file or, with `channels=0`, writes past its buffer.
    So an animation gets a header that announces animation and alpha (RFC 9649, 2.7.1: 0x02, 0x10).
    """
    flags = _int32(encoded, 20, 1, tf.uint8)[0]
    animated = tf.equal(substring(encoded, 12, 4), b"VP8X") & (flags & 0x02 > 0)

    def with_alpha():
        rest = substring(encoded, 21, tf.strings.length(encoded))
        return tf.strings.join([substring(encoded, 0, 20), b"\x12", rest])

    safe = tf.cond(animated, with_alpha, lambda: encoded)
    return tf.io.decode_image(safe, channels=0, expand_animations=False)[..., :3]


def bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode an uncompressed BMP of 1, 4, 8, 24 or 32 bits a pixel.

    `tf.io.decode_bmp` takes palette indices for grey levels and refuses bytes after the pixels.
    Source: BITMAPFILEHEADER, BITMAPINFOHEADER and BITMAPV4HEADER in Microsoft's Windows GDI docs.
    """
    words = tf.cast(integers(encoded, 0, 66, tf.uint16), tf.int64)

    def number(offset):
        return words[offset // 2] + words[offset // 2 + 1] * 65536

    start, header, width, compression = number(10), number(14), number(18), number(30)
    bits = words[28 // 2]
    upside_down = number(22) < 2**31  # a negative height means that the top row comes first
    height = tf.where(upside_down, number(22), 2**32 - number(22))
    # BI_BITFIELDS says only where in the 32 bits each colour lies: taken for the usual BGRA.
    usual = (number(54) == 0xFF0000) & (number(58) == 0xFF00) & (number(62) == 0xFF)
    plain = (compression == 0) | ((compression == 3) & (bits == 32) & usual)
    known = plain & (header >= 40) & tf.reduce_any(bits == [1, 4, 8, 24, 32])
    # The sides first, lest their product overflow.
    sane = (width > 0) & (height > 0) & (tf.maximum(width, height) <= MAX_PIXELS)
    sane &= width * height <= MAX_PIXELS
    stride = (bits * width + 31) // 32 * 4
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    fits = start + stride * height <= size
    message = ["Unusual or truncated BMP: bits a pixel, compression, width, height, bytes:"]
    facts = [bits, compression, width, height, size]
    with tf.control_dependencies([tf.debugging.Assert(known & sane & fits, message + facts)]):
        raw = tf.io.decode_raw(substring(encoded, start, stride * height), tf.uint8)
    rows = tf.reshape(raw, [height, stride])
    image = tf.cond(
        bits <= 8,
        lambda: _bmp_colours(encoded, 14 + header, rows, bits, width),
        lambda: tf.reshape(rows[:, : width * (bits // 8)], [height, width, bits // 8])[..., 2::-1],
    )
    return tf.cond(upside_down, lambda: image[::-1], lambda: image)


def _bmp_colours(encoded, start, rows, bits, width) -> tf.Tensor:
    """Unpack indices of 1, 4 or 8 bits, the leftmost in the high bits, and look them up (BGR0)."""
    palette = tf.reshape(integers(encoded, start, 256 * 4, tf.uint8), [256, 4])
    bits, octets = tf.cast(bits, tf.int32), tf.cast(rows, tf.int32)[..., tf.newaxis]
    shifted = tf.bitwise.right_shift(octets, tf.range(8 - bits, -1, -bits))
    indices = shifted & (tf.bitwise.left_shift(1, bits) - 1)
    indices = tf.reshape(indices, [tf.shape(rows)[0], -1])[:, :width]
    return tf.gather(palette[:, 2::-1], indices)


def _int32(encoded: tf.Tensor, start, length: int, dtype: tf.DType) -> tf.Tensor:
    """Return `length` bytes from `start` on as little-endian numbers of `dtype`, cast to int32."""
    return tf.cast(integers(encoded, start, length, dtype), tf.int32)
