"""The five formats to RGB, each within the limits: pixels as every viewer shows them.

Graph code only, as `decode` needs it. Each function takes the file's bytes as a scalar
string tensor and returns uint8 (height, width, 3), RGB; each raises
`tf.errors.InvalidArgumentError`, when run, for a damaged file, and for one of more than
`MAX_PIXELS` pixels by its header, before anything is decoded.
"""

from __future__ import annotations

import tensorflow as tf

from tlkit.data.pictures.exif import holds, integers, substring
from tlkit.data.pictures.limits import MAX_PIXELS
from tlkit.data.pictures.rendering import Rendering, blend

LIMIT = f"at most {MAX_PIXELS:,} pixels are allowed"

MAX_SCANS = 500
"""Scans of a JPEG: a legal file may have any number, each of which costs a pass over all pixels
(Wheeler 2015, "Two Issues with the JPEG Standard", section 2.1); libjpeg-turbo's own fuzzers and
its `djpeg -maxscans` example stop at 500. Encoders write 1 to 20."""

MAX_SCANNED = 64 * MAX_PIXELS
"""Pixels times scans of a JPEG: at the limit of pixels 64 scans, more than any encoder writes."""

SCAN = b"\xff\xda"
SCAN_BYTES = 2**14
"""Bytes for each of which one marker of a scan is not counted: a film that a phone puts behind the
image holds one by chance in 2**16."""

# GIF89a specification, appendix A and sections 18, 20, 23: an extension opens with 0x21 and a
# label, an image with 0x2C; the packed fields tell whether a palette follows and its size, and
# whether a graphic control extension names a transparent colour.
_EXTENSION, _CONTROL, _IMAGE, _TRAILER = 0x21, 0xF9, 0x2C, b"\x3b"
_HAS_PALETTE, _PALETTE_SIZE, _HAS_TRANSPARENT = 0x80, 0x07, 0x01
_MAX_BLOCKS = 20_000  # bounds the time that a file of empty blocks can take
_FULL = 255  # bytes of data in a block; encoders fill all but the last

_GREY_ALPHA, _RGB_ALPHA = 4, 6  # PNG 11.2.1, table 11.1: colour types with alpha
# Chunks of this name hold what is transparent in the other types. Found elsewhere by chance, it
# costs time alone: without such a chunk every pixel is opaque.
_TRANSPARENCY = b"tRNS"


def refused_unless(allowed: tf.Tensor, message: str) -> tf.Tensor:
    """Return what raises an InvalidArgumentError with `message` when it is computed.

    `tf.debugging.Assert` builds a conditional with a stateful operation in it: a third of the time
    that a small JPEG takes. This one is a plain operation; what it adds to the message is its own.
    """
    number = tf.where(allowed, tf.constant(0.0), tf.constant(float("nan")))
    return tf.raw_ops.CheckNumerics(tensor=number, message=message)


def within_limit(width: tf.Tensor, height: tf.Tensor, name: str) -> tf.Tensor:
    """Return what refuses more than `MAX_PIXELS`; int64, 0 to 2**32 - 1."""
    # The sides first, lest their product overflow.
    sane = (tf.maximum(width, height) <= MAX_PIXELS) & (width * height <= MAX_PIXELS)
    return refused_unless(sane, f"{name} is too large, {LIMIT}")


def jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG with the accurate integer transform."""
    # libjpeg's own reading of the header, which is what the decoder goes by: sides below 2**16.
    area = tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64))
    pieces = tf.raw_ops.StringSplitV2(input=[encoded], sep=SCAN, maxsplit=-1).shape[1]
    scans = pieces - 1 - tf.cast(tf.strings.length(encoded) // SCAN_BYTES, tf.int64)
    few = (scans <= MAX_SCANS) & (scans * area <= MAX_SCANNED)
    with tf.control_dependencies(
        [
            refused_unless(area <= MAX_PIXELS, f"JPEG is too large, {LIMIT}"),
            refused_unless(few, "JPEG has too many scans"),
        ]
    ):
        return jpeg_pixels(encoded)


def jpeg_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG whose header has been looked at."""
    # TensorFlow's own choice, INTEGER_FAST, is up to 8 levels off what Pillow decodes.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def png(encoded: tf.Tensor, rendering: Rendering) -> tf.Tensor:
    """Decode a PNG: palettes and transparent colours looked up, 16 bits as `rendering` says."""
    # Width and height, then bit depth and colour type (PNG 11.2.1), big-endian.
    sides = tf.cast(integers(encoded, 16, 8, tf.int32, little_endian=False), tf.int64)
    width, height = tf.unstack(tf.where(sides < 0, sides + 2**32, sides))
    depth, kind = tf.unstack(integers(encoded, 24, 2, tf.uint8))
    with tf.control_dependencies([within_limit(width, height, "PNG")]):
        encoded = tf.identity(encoded)

    def opaque():
        return png_pixels(encoded)

    def shown(dtype):
        return blend(tf.io.decode_png(encoded, channels=4, dtype=dtype), rendering)

    image = opaque
    if rendering.alpha != "drop":
        has_alpha = (kind == _GREY_ALPHA) | (kind == _RGB_ALPHA)
        has_alpha |= holds(encoded, _TRANSPARENCY)
        image = lambda: tf.cond(has_alpha, lambda: shown(tf.uint8), opaque)  # noqa: E731
    if rendering.bits not in (None, 16):  # of the whole range the upper byte, as it is decoded to 8
        return tf.cond(tf.equal(depth, 16), lambda: shown(tf.uint16), image)
    return image()


def png_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a PNG by its colours alone, 16-bit samples by their upper byte."""
    return tf.io.decode_png(encoded, channels=3)


def gif(encoded: tf.Tensor, rendering: Rendering) -> tf.Tensor:
    """Decode the first frame of a GIF, put in its place on the canvas.

    TensorFlow 2.21 makes the image as large as the frame, not as the canvas, and cuts off what
    the frame's offset moves outside; it draws transparent pixels black; and it unpacks all frames,
    of any size, to answer the first. So the file is cut behind its first frame, whose offset is
    set to 0 and whose transparent colour to that of the ground.
    """
    canvas = _int32(encoded, 6, 4, tf.uint16)
    start, control = _first_image(encoded)
    left, top, width, height = tf.unstack(_int32(encoded, start + 1, 8, tf.uint16))
    total = tf.maximum(canvas, tf.stack([left + width, top + height]))
    with tf.control_dependencies([within_limit(*tf.unstack(tf.cast(total, tf.int64)), "GIF")]):
        before = substring(encoded, 0, start + 1)
    packed, sides = _int32(encoded, start + 9, 1, tf.uint8)[0], substring(encoded, start + 5, 4)
    palette = tf.where(packed & _HAS_PALETTE > 0, 3 * _colours(packed), 0)
    data = start + 10 + palette
    rest = substring(encoded, data, _data_end(encoded, data) - data)
    local = substring(encoded, start + 9, 1 + palette)
    if rendering.alpha != "drop":
        flags, index = tf.unstack(tf.gather(_int32(encoded, control, 4, tf.uint8), [0, 3]))
        local = tf.cond(
            (control > 0) & (flags & _HAS_TRANSPARENT > 0),
            lambda: _grounded(encoded, start, packed, index, rendering),
            lambda: local,
        )
        # Of what is now a colour like any other, nothing must be left that calls it transparent.
        at = tf.maximum(control, 0)
        opaque = [substring(before, 0, at), b"\0", substring(before, at + 1, start)]
        before = tf.where(control > 0, tf.strings.join(opaque), before)
    moved = tf.strings.join([before, b"\0\0\0\0", sides, local, rest, _TRAILER])
    frame = tf.io.decode_image(moved, channels=3, expand_animations=False)[:height, :width]
    right, bottom = total[0] - left - width, total[1] - top - height
    around = [[top, bottom], [left, right], [0, 0]]
    return tf.pad(frame, around, constant_values=tf.constant(rendering.ground, tf.uint8))


def _colours(packed: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.left_shift(2, packed & _PALETTE_SIZE)


def _grounded(encoded, start, packed, index, rendering: Rendering) -> tf.Tensor:
    """Return packed fields and a palette of 256 colours, that of `index` being the ground."""
    own = packed & _HAS_PALETTE > 0
    common = _int32(encoded, 10, 1, tf.uint8)[0]
    size = 3 * tf.where(own, _colours(packed), _colours(common))
    palette = substring(encoded, tf.where(own, start + 10, 13), size)
    octets = tf.io.decode_raw(palette, tf.uint8, fixed_length=3 * 256)
    there = tf.range(3 * 256) // 3 == index
    octets = tf.where(there, tf.constant(rendering.ground, tf.uint8), octets)
    flags = tf.cast(packed | _HAS_PALETTE | _PALETTE_SIZE, tf.uint8)
    octets = tf.cast(tf.concat([[flags], octets], axis=0), tf.int32)
    return tf.strings.reduce_join(tf.gather([bytes([i]) for i in range(256)], octets))


def _data_end(encoded: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Return the end of the blocks of an image's data, which start at `data` + 1."""
    size = tf.strings.length(encoded)
    octets = tf.io.decode_raw(encoded, tf.uint8)
    # The run of full blocks at once: one by one they would take as long as decoding them.
    leading = octets[data + 1 :: _FULL + 1]
    full = tf.concat([tf.cast(leading == _FULL, tf.int32), [0]], axis=0)
    position = data + 1 + (_FULL + 1) * tf.argmin(full, output_type=tf.int32)

    def step(position, _):
        octet = tf.cast(octets[tf.minimum(position, size - 1)], tf.int32)
        length = tf.where(position < size, octet, 0)
        return position + 1 + length, length > 0

    position, _ = tf.while_loop(
        lambda _, more: more,
        step,
        (position, tf.constant(True)),
        parallel_iterations=1,
        maximum_iterations=_MAX_BLOCKS,
    )
    return tf.minimum(position, size)


def _first_image(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where the first image descriptor starts, and its graphic control's packed fields.

    The former is the length of a GIF without an image, the latter 0 of one without that extension.
    """
    size = tf.strings.length(encoded)
    packed = _int32(encoded, 10, 1, tf.uint8)[0]
    start = 13 + tf.where(packed & _HAS_PALETTE > 0, 3 * _colours(packed), 0)

    def step(position, inside, _, control):
        """Step over an extension's two bytes or, inside one, over a block of data."""
        octet, label = tf.unstack(_int32(encoded, position, 2, tf.uint8))
        opens = ~inside & (octet == _EXTENSION) & (label == _CONTROL)
        control = tf.where(opens, position + 3, control)  # behind the block's length
        found = ~inside & (octet == _IMAGE)
        goes_on = inside | (octet == _EXTENSION)
        following = tf.where(inside, position + 1 + octet, position + 2)
        inside = tf.where(inside, octet > 0, octet == _EXTENSION)
        position = tf.where(goes_on, following, tf.where(found, position, size))
        return position, inside, found, control

    position, _, found, control = tf.while_loop(
        lambda position, _, found, control: ~found & (position < size),
        step,
        (start, tf.constant(False), tf.constant(False), tf.constant(0)),
        parallel_iterations=1,
        maximum_iterations=_MAX_BLOCKS,
    )
    return tf.where(found, position, size), control


def webp(encoded: tf.Tensor, rendering: Rendering) -> tf.Tensor:
    """Decode WebP: lossy, lossless, or the first frame of an animation.

    TensorFlow 2.21 draws every animation with 4 channels, but reserves room for 3 unless the VP8X
    header announces alpha: it refuses such a file or, with `channels=0`, writes past its buffer.
    So an animation gets a header that announces animation and alpha (RFC 9649, 2.7.1: 0x02, 0x10).
    """
    with tf.control_dependencies([within_limit(*_webp_size(encoded), "WebP")]):
        flags = _int32(encoded, 20, 1, tf.uint8)[0]
    animated = tf.equal(substring(encoded, 12, 4), b"VP8X") & (flags & 0x02 > 0)

    def with_alpha():
        rest = substring(encoded, 21, tf.strings.length(encoded))
        return tf.strings.join([substring(encoded, 0, 20), b"\x12", rest])

    safe = tf.cond(animated, with_alpha, lambda: encoded)
    image = tf.io.decode_image(safe, channels=0, expand_animations=False)
    return tf.cond(
        tf.equal(tf.shape(image)[-1], 4),
        lambda: blend(image, rendering),
        lambda: tf.ensure_shape(image, (None, None, 3)),
    )


def _webp_size(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return width and height by the first chunk; a side too long by that of another kind.

    RFC 9649: 24 bits a side, less one, in VP8X (figure 7); 14 bits, less one, behind a byte in VP8L
    (3.4); RFC 6386, 9.1: 14 bits behind a frame tag and a start code of 3 bytes in VP8.
    """
    kind = substring(encoded, 12, 4)
    octets = tf.cast(integers(encoded, 20, 10, tf.uint8), tf.int64)
    powers = tf.constant([1, 1 << 8, 1 << 16, 1 << 24], tf.int64)
    lossless = tf.reduce_sum(octets[1:5] * powers)
    extended = tf.reduce_sum(tf.reshape(octets[4:10], [2, 3]) * powers[:3], axis=1) + 1
    lossy = tf.reduce_sum(tf.reshape(octets[6:10], [2, 2]) * powers[:2], axis=1) % 2**14
    sides = tf.stack([lossless % 2**14 + 1, lossless // 2**14 % 2**14 + 1])
    sides = tf.where(tf.equal(kind, b"VP8X"), extended, sides)
    sides = tf.where(tf.equal(kind, b"VP8 "), lossy, sides)
    known = tf.reduce_any(tf.equal(kind, [b"VP8X", b"VP8L", b"VP8 "]))
    return tuple(tf.unstack(tf.where(known, sides, MAX_PIXELS + 1)))


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
