"""The one picture decoder of tlkit: training, prediction and the exported SavedModel share it.

Everything but `why_undecodable` is TensorFlow graph code without Python callbacks, so it runs in
eager mode, under `tf.data`, in `tf.map_fn` and inside a SavedModel, and answers the same pixels in
each. JPEG is decoded with the accurate integer transform, which is what Pillow shows; 16-bit
samples give their upper byte; palettes are looked up; alpha is dropped, not blended; of an
animation the first frame counts; the EXIF orientation is applied.

Example:
    >>> image = decode(tf.io.read_file("rose.jpg"))      # uint8 (height, width, 3), RGB
    >>> resize(image, 224)                               # float32 (224, 224, 3), 0 to 255
    >>> why_undecodable(b"no picture")
    "not an image: starts with b'no pictu'"
"""

from __future__ import annotations

import functools
import threading

import tensorflow as tf

from tlkit.data import exif, pixels
from tlkit.data.header import FORMATS, MAGIC, MAGIC_LENGTH, Header, read_header

# What counts as a picture when a folder is listed. Those that no decoder here takes are listed
# too: they have to be named as left out rather than be overlooked.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".tga", ".ico", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".psd", ".mpo"),
    *(".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".heic", ".heif", ".svg", ".dng", ".cr2", ".nef"),
)

UNDECODABLE = (tf.errors.OpError, UnicodeDecodeError)
"""What decoding raises. The latter: some messages quote the file, which need not be UTF-8."""


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a picture and turn it upright.

    Args:
        encoded: the file's bytes, a scalar string tensor: JPEG, PNG, GIF, BMP or WebP, recognised
            by its first bytes, whatever its name says.

    Returns:
        A uint8 tensor (height, width, 3), RGB, 0 to 255.

    Raises:
        tf.errors.InvalidArgumentError: when run, for another format or a damaged file.
    """
    # Strings live on the CPU; left to the placer, each small integer of the walk through the
    # file would travel to the GPU and back.
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        return exif.apply_orientation(_pixels(encoded), orientation(encoded))


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of an encoded picture (tag 0x0112, CIPA DC-008).

    Args:
        encoded: the file's bytes, a scalar string tensor.

    Returns:
        An int32 scalar from 1 to 8; 1 (upright) without EXIF, or with EXIF that is broken.
    """
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        upright = functools.partial(tf.constant, 1, tf.int32)
        return _by_format(
            encoded,
            {
                "JPEG": lambda: exif.jpeg_orientation(encoded),
                "PNG": lambda: exif.png_orientation(encoded),
                "WebP": lambda: exif.webp_orientation(encoded),
            },
            upright,
        )


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """Stretch `image` to a square, bilinear with antialias; the aspect ratio is not kept.

    Args:
        image: (height, width, 3), uint8 or float, 0 to 255.
        size: side of the square in pixels.

    Returns:
        A float32 tensor (size, size, 3), 0 to 255 within rounding errors (255.0001 occurs).
    """

    def resized(antialias: bool) -> tf.Tensor:
        # An image that has the size already comes back as it is, with its type.
        return tf.cast(tf.image.resize(image, (size, size), antialias=antialias), tf.float32)

    # Where nothing gets smaller, antialias changes values by rounding alone (3e-5), and takes three
    # times as long.
    grows = tf.reduce_all(tf.shape(image)[:2] <= size)
    made = tf.cond(grows, lambda: resized(False), lambda: resized(True))
    return tf.ensure_shape(made, (size, size, 3))


def decode_and_resize(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Return `resize(decode(encoded), size)`: float32 (size, size, 3), 0 to 255.

    A stretched square may as well be turned after it has become small, which spares a third of the
    time on a phone's portrait and changes no value by more than rounding (below 0.01).

    Raises: as `decode`.
    """
    with tf.device("/CPU:0"):
        encoded = tf.convert_to_tensor(encoded)
        image = exif.apply_orientation(resize(_pixels(encoded), size), orientation(encoded))
    return tf.ensure_shape(image, (size, size, 3))


@functools.cache
def traced_decode_and_resize(size: int) -> tf.types.experimental.PolymorphicFunction:
    """Return `decode_and_resize` for one size as a graph function, traced once.

    Every pipeline that traced it anew would take a second of computing before its first picture.
    """
    return tf.function(
        functools.partial(decode_and_resize, size=size),
        [tf.TensorSpec((), tf.string)],
        autograph=False,
    )


def why_undecodable(encoded: bytes, header: Header | None = None) -> str | None:
    """Say why a file's bytes cannot be used; None if `decode` takes them.

    A picture of more than `MAX_PIXELS` pixels is refused by its header and never decoded. May be
    called from several threads.

    Args:
        header: what `read_header` says of `encoded`, where it has been asked already.
    """
    name, problem, *_ = header or read_header(encoded)
    if problem:
        return problem
    # These two, nearly all there are, need no graph: tracing it takes a second, and each call of it
    # is three times as slow. EXIF, however broken, makes no picture unusable.
    check = {"JPEG": _jpeg, "PNG": _png}.get(name) or _graph_decoder()
    try:
        with tf.device("/CPU:0"):
            check(tf.constant(encoded))
    except UNDECODABLE:
        return _why_damaged(encoded, name)
    return None


def _by_format(encoded: tf.Tensor, branches: dict, otherwise) -> tf.Tensor:
    """Run the branch of the format that the first bytes tell, `otherwise` where there is none."""
    rows = [pattern.ljust(MAGIC_LENGTH, b"?") for pattern in (*MAGIC.values(), b"")]
    patterns = tf.constant([list(row) for row in rows], tf.uint8)
    octets = exif.integers(encoded, 0, MAGIC_LENGTH, tf.uint8)
    # The last row matches everything, so the first match is the format or the way out.
    matches = tf.reduce_all((octets == patterns) | (patterns == ord("?")), axis=1)
    index = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)
    return tf.switch_case(index, [*(branches.get(name, otherwise) for name in MAGIC), otherwise])


def _pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decode to uint8 (height, width, 3) RGB as stored, the orientation not applied."""

    image = _by_format(
        encoded,
        {
            "JPEG": lambda: _jpeg(encoded),
            "PNG": lambda: _png(encoded),
            "GIF": lambda: pixels.gif(encoded),
            "BMP": lambda: pixels.bmp(encoded),
            "WebP": lambda: pixels.webp(encoded),
        },
        lambda: _refuse(encoded),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # TensorFlow's own choice, INTEGER_FAST, is up to 8 levels off what Pillow decodes.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _png(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(encoded, channels=3)


def _refuse(encoded: tf.Tensor) -> tf.Tensor:
    # The bytes as numbers: as text they may be no UTF-8, and the message could not be read.
    octets = exif.integers(encoded, 0, 8, tf.uint8)
    message = ["Not a picture that can be decoded, allowed:", ", ".join(FORMATS), "It starts with:"]
    refusal = tf.debugging.Assert(False, [*message, octets], summarize=8)
    with tf.control_dependencies([refusal]):
        return tf.zeros((0, 0, 3), tf.uint8)


_decoder_lock = threading.Lock()


def _graph_decoder() -> tf.types.experimental.PolymorphicFunction:
    with _decoder_lock:
        return _traced_decoder()


@functools.cache
def _traced_decoder() -> tf.types.experimental.PolymorphicFunction:
    decoder = tf.function(decode, [tf.TensorSpec((), tf.string)], autograph=False)
    decoder.get_concrete_function()
    return decoder


def _why_damaged(encoded: bytes, name: str) -> str:
    if name == "JPEG" and _jpeg_precision(encoded) == 12:
        return "12-bit JPEG is not supported"
    if name == "BMP":
        return "truncated or corrupt BMP, or not of 1, 4, 8, 24 or 32 bits uncompressed"
    return f"truncated or corrupt {name}"


def _jpeg_precision(encoded: bytes) -> int | None:
    """Return the bits a sample in the frame header (T.81, B.2.2), None if there is no header."""
    position = 2
    while position + 5 <= len(encoded) and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # DHT, JPG, DAC
            return encoded[position + 4]
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        position += 1 if marker == 0xFF else 2 + length
    return None
