"""The EXIF orientation of an encoded image, read from its bytes by TensorFlow operations.

TensorFlow's decoders ignore the tag, so a phone's portrait would reach the model lying on its
side. Everything here is graph code: it runs under `tf.data`, `tf.map_fn` and in a SavedModel.

Sources: CIPA DC-008 (EXIF 2.32) for the tag and for the APP1 segment, TIFF 6.0 section 2 for the
directory, ITU-T T.81 annex B for JPEG markers, the PNG specification (third edition, 11.3.2.1) for
`eXIf`, RFC 9649 section 2.7 for WebP.

It is the orientation by which Pillow's `ImageOps.exif_transpose` turns (13.0), but for what is not
worth the time of every image: one that stands in XMP alone, which browsers do not turn by either,
or, in PNG, in a text chunk; EXIF
spread over several APP1 segments, of which the first counts here; BigTIFF; values that are no
integers.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

ORIENTATION_TAG = 0x0112  # CIPA DC-008, 4.6.5.1.5; TIFF 6.0, p. 36
# TIFF 6.0, p. 15-16: bytes of a value of the types 0 to 13, where it is an integer: SHORT and LONG,
# signed ones, the signed byte, and 13, an offset (Adobe PageMaker 6.0 TIFF Technical Notes).
_SIZES = (0, 0, 0, 2, 4, 0, 1, 0, 2, 4, 0, 0, 0, 4, 0)
_ENTRY = 12  # bytes of a directory entry: tag 2, type 2, count 4, value 4 (TIFF 6.0, p. 14)

# What leads an EXIF block in JPEG and in PNG.
_IN_JPEG, _IN_PNG = b"Exif\0\0", b"eXIf"
_IDENTIFIER = r"^(Exif\x00\x00){1,2}"  # some writers put it where none belongs, some twice

# Far more segments or chunks than a camera or an editor writes; it bounds the time that a file
# made of empty ones can take.
_MAX_STEPS = 20_000

# T.81, table B.1, B.1.1.2 and B.1.1.3: of the markers RST0 to SOI none has a length.
_APP1, _SOS, _FILL, _RST0, _SOI = 0xFFE1, 0xFFDA, 0xFFFF, 0xFFD0, 0xFFD8
_EX, _IF = 0x4578, 0x6966  # "Ex", "if"
_PNG_EXIF = int.from_bytes(b"eXIf", "big")
_WEBP_EXIF = int.from_bytes(b"EXIF", "little")
_WEBP_EXTENDED = int.from_bytes(b"VP8X", "little")
_WEBP_HAS_EXIF = 0x08  # RFC 9649, figure 7: the E bit of the VP8X flags


def apart(read: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return what reads a file's bytes as a function of its own, which is not put into the graph.

    Of a conditional all branches stand in the graph, and each operation of those not taken is
    visited for every image: of a small JPEG that was a third of its time.
    """
    return tf.function(
        read,
        [tf.TensorSpec((), tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def substring(data: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Return up to `length` bytes from `start` on; what lies past the end is left out.

    `tf.strings.substr` alone raises past the end, with bytes of the file in a message that Python
    then fails to decode.
    """
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, _length(data))
    return tf.strings.substr(data, start, tf.maximum(tf.cast(length, tf.int64), 0))


def integers(
    data: tf.Tensor,
    start: tf.Tensor | int,
    length: int,
    dtype: tf.DType,
    little_endian: bool = True,
) -> tf.Tensor:
    """Return `length` bytes from `start` on as numbers of `dtype`; 0 for what is past the end."""
    piece = substring(data, start, length)
    return tf.io.decode_raw(piece, dtype, little_endian=little_endian, fixed_length=length)


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in a JPEG's APP1 segment, 1 if there is none.

    Args:
        encoded: the file's bytes, a scalar string tensor.

    Returns:
        An int32 scalar, 1 to 8.
    """
    return _if_holds(_IN_JPEG, encoded, lambda: _in_jpeg(encoded))


def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in a PNG's `eXIf` chunk, 1 if there is none.

    Args and Returns: as `jpeg_orientation`.
    """
    return _if_holds(_IN_PNG, encoded, lambda: _tiff_orientation(_png_block(encoded)))


def webp_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in a WebP's `EXIF` chunk, 1 if there is none.

    Args and Returns: as `jpeg_orientation`.
    """
    kind, _, flags = tf.unstack(integers(encoded, 12, 12, tf.int32))
    has_exif = tf.equal(kind, _WEBP_EXTENDED) & (flags & _WEBP_HAS_EXIF > 0)
    return tf.cond(has_exif, lambda: _tiff_orientation(_webp_block(encoded)), _upright)


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror `image` upright, as `PIL.ImageOps.exif_transpose` does.

    Args:
        image: (height, width, channels), any type.
        orientation: int32 scalar, 1 to 8.

    Returns:
        The same pixels: (height, width, channels), or (width, height, channels) for 5 to 8.
    """
    return tf.cond(tf.equal(orientation, 1), lambda: image, lambda: _turn(image, orientation))


def _turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Transpose first (5 to 8), then mirror along the axes that CIPA DC-008's figure tells."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    #            orientation:  -      1      2      3     4     5      6      7     8
    up_down = tf.constant([False, False, False, True, True, False, False, True, True])
    left_right = tf.constant([False, False, True, True, False, False, True, True, False])
    mirrored = tf.stack([up_down[orientation], left_right[orientation]])
    return tf.reverse(image, tf.boolean_mask(tf.constant([0, 1]), mirrored))


def _upright() -> tf.Tensor:
    return tf.constant(1, tf.int32)


def holds(encoded: tf.Tensor, sign: bytes) -> tf.Tensor:
    """Tell whether `sign` stands anywhere in a file: in half the time of a regular expression."""
    return tf.raw_ops.StringSplitV2(input=[encoded], sep=sign, maxsplit=1).shape[1] > 1


def _if_holds(identifier: bytes, encoded: tf.Tensor, read) -> tf.Tensor:
    """Read EXIF where its identifier stands: most files have none, and a walk takes its time."""
    return tf.cond(holds(encoded, identifier), read, _upright)


def _length(data: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(data), tf.int64)


def _walk(encoded: tf.Tensor, first: int, read_head) -> tf.Tensor:
    """Step from segment to segment and return the payload of the one that holds EXIF.

    `read_head(position)` returns (found, start of the payload, its length, next position), a next
    position that is not further on ending the walk. Returns an empty string if none is found.
    """
    size = _length(encoded)
    nothing = tf.constant(0, tf.int64)

    def step(position, start, length):
        found, payload, payload_length, following = read_head(position)
        ends = found | (following <= position)
        return (
            tf.where(ends, size, following),
            tf.where(found, payload, start),
            tf.where(found, payload_length, length),
        )

    _, start, length = tf.while_loop(
        lambda position, *_: position < size,
        step,
        (tf.constant(first, tf.int64), nothing, nothing),
        parallel_iterations=1,
        maximum_iterations=_MAX_STEPS,
    )
    return substring(encoded, start, length)


def _jpeg_block(encoded: tf.Tensor) -> tf.Tensor:
    """Return the TIFF block behind `Exif\\0\\0` in an APP1 segment before the first scan."""

    def read_head(position):
        head = integers(encoded, position, 10, tf.uint16, little_endian=False)
        marker, length, ex, if_, zeros = tf.unstack(tf.cast(head, tf.int64))
        found = (marker == _APP1) & (ex == _EX) & (if_ == _IF) & (zeros == 0) & (length > 8)
        alone = (marker == 0xFF00) | ((marker >= _RST0) & (marker <= _SOI))
        nothing, one = tf.zeros_like(position), tf.ones_like(position)
        step = 2 + tf.where(alone, nothing, tf.maximum(length, 2))
        # A marker may be led by any number of 0xFF, and decoders step over bytes that are none.
        step = tf.where((marker < 0xFF00) | (marker == _FILL), one, step)
        following = position + tf.where(marker == _SOS, nothing, step)
        return found, position + 4, length - 2, following

    return _without_identifier(_walk(encoded, 2, read_head))


def _png_block(encoded: tf.Tensor) -> tf.Tensor:
    """Return the payload of the `eXIf` chunk, which may stand before or after the pixels."""

    def read_head(position):
        head = integers(encoded, position, 8, tf.int32, little_endian=False)
        length, kind = tf.unstack(tf.cast(head, tf.int64))
        # 12: length, type and checksum. A negative length (above 2**31 - 1) is not allowed.
        following = tf.where(length < 0, position, position + 12 + length)
        return tf.equal(kind, _PNG_EXIF), position + 8, length, following

    return _walk(encoded, 8, read_head)


def _webp_block(encoded: tf.Tensor) -> tf.Tensor:
    """Return the payload of the `EXIF` chunk, less the `Exif\\0\\0` that some writers put there."""

    def read_head(position):
        head = integers(encoded, position, 8, tf.int32)
        kind, length = tf.unstack(tf.cast(head, tf.int64))
        padded = length + length % 2
        following = tf.where(length < 0, position, position + 8 + padded)
        return tf.equal(kind, _WEBP_EXIF), position + 8, length, following

    return _without_identifier(_walk(encoded, 12, read_head))


def _without_identifier(block: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(block, _IDENTIFIER, "")


# Three formats hold it: a function of its own is traced once.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the first directory of a TIFF block, 1 if it tells none.

    Integers from 1 to 8 count, the first of several, and the last entry of the tag, as in Pillow;
    offsets and counts that point outside the block find nothing.
    """
    magic = tf.strings.substr(tiff, 0, 4)
    # The magic number in the other byte order is no TIFF, but there are writers of it.
    big = tf.equal(magic, b"MM\x00*") | tf.equal(magic, b"MM*\x00")
    little = tf.equal(magic, b"II*\x00") | tf.equal(magic, b"II\x00*")
    powers = tf.constant([1, 1 << 8, 1 << 16, 1 << 24], tf.int64)

    def number(octets):
        """Read the last axis (1, 2 or 4 octets) as one unsigned number in the block's order."""
        ordered = tf.cond(big, lambda: tf.reverse(octets, [-1]), lambda: octets)
        return tf.reduce_sum(tf.cast(ordered, tf.int64) * powers[: octets.shape[-1]], axis=-1)

    def read():
        directory = number(integers(tiff, 4, 4, tf.uint8))
        count = number(integers(tiff, directory, 2, tf.uint8))
        table = tf.io.decode_raw(substring(tiff, directory + 2, count * _ENTRY), tf.uint8)
        entries = tf.reshape(table[: tf.size(table) // _ENTRY * _ENTRY], [-1, _ENTRY])
        entries = tf.pad(entries, [[1, 0], [0, 0]])  # the first, of no type, where there is no tag
        kind, values = number(entries[:, 2:4]), number(entries[:, 4:8])
        size = tf.gather(tf.constant(_SIZES, tf.int64), tf.minimum(kind, len(_SIZES) - 1))
        # Of what does not fit into four bytes the entry holds the place.
        place = number(entries[:, 8:12])
        inside = (values * size <= 4) | (place + values * size <= _length(tiff))
        told = (number(entries[:, 0:2]) == ORIENTATION_TAG) & (size > 0) & (values > 0) & inside
        at = tf.concat([[tf.constant(0, tf.int64)], tf.where(told)[:, 0]], axis=0)[-1]
        own = directory + 2 + (at - 1) * _ENTRY + 8
        octets = integers(tiff, tf.where((values * size)[at] <= 4, own, place[at]), 4, tf.uint8)
        byte, short, long = (number(octets[:n]) for n in (1, 2, 4))
        value = tf.gather(tf.stack([0 * byte, byte, short, 0 * byte, long]), size[at])
        return tf.cast(tf.where((value >= 1) & (value <= 8), value, 1), tf.int32)

    return tf.cond(big | little, read, _upright)


# Most JPEGs have no EXIF: as a function of its own, that walk costs them nothing.
_in_jpeg = apart(lambda encoded: _tiff_orientation(_jpeg_block(encoded)))
