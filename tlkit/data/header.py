"""What the first bytes of a picture say: its format, mode, size; nothing is decoded."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from tlkit.data.pixels import MAX_PIXELS

# How a file of each format begins, `?` standing for any byte: T.81 B.1.1.3, PNG 5.2, GIF89a 17,
# the BITMAPFILEHEADER, RFC 9649 2.4.
MAGIC = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "WebP": b"RIFF????WEBP",
}
MAGIC_LENGTH = 12
FORMATS = tuple(MAGIC)

# Formats that Pillow may not know or may fail to open, for the wording of the refusal alone.
_UNSUPPORTED_MAGIC = (
    ("ICO", b"\x00\x00\x01\x00"),
    ("JPEG XL", b"\xff\x0a"),
    ("JPEG XL", b"\x00\x00\x00\x0cJXL "),
    ("HEIC", b"????ftyphe"),
    ("AVIF", b"????ftypavif"),
    ("SVG", b"<svg"),
)

_PLUGINS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}

# Pillow's modes in the words of `MODES`.
_MODES = {
    **{"1": "grey", "L": "grey", "RGB": "RGB", "CMYK": "CMYK", "P": "palette"},
    **{"LA": "alpha", "RGBA": "alpha", "PA": "alpha", "RGBX": "RGB"},
}
MODES = ("RGB", "grey", "CMYK", "palette", "alpha", "16-bit")
"""How the samples of a picture are stored; 16-bit whatever the colours."""


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        format: one of `FORMATS`, or None.
        problem: why the picture is not to be decoded, or None.
        mode: one of `MODES`; None where Pillow cannot read the header.
        width, height: in pixels, as stored; 0 where Pillow cannot read the header.
        several: whether further pictures follow the first (GIF, APNG and WebP animations).
    """

    format: str | None
    problem: str | None
    mode: str | None = None
    width: int = 0
    height: int = 0
    several: bool = False


def read_header(encoded: bytes) -> Header:
    """Read the header of an encoded picture; may be called from several threads.

    More than `MAX_PIXELS` pixels are a problem: such a picture is never to be decoded.
    """
    if not encoded:
        return Header(None, "empty file")
    name = match(encoded, MAGIC.items())
    if name is None:
        return Header(None, _why_no_format(encoded))
    try:
        # The plugin itself, since `Image.open` would refuse a bomb without telling its size.
        with _PLUGINS[name](io.BytesIO(encoded)) as image:
            width, height = image.size
            mode = "16-bit" if _is_deep(encoded, name) else _MODES.get(image.mode)
            if width * height > MAX_PIXELS:
                limit = f"at most {MAX_PIXELS:,} are allowed"
                problem = f"too large: {width} x {height} pixels, {limit}"
                return Header(name, problem, mode, width, height)
            return Header(name, None, mode, width, height, getattr(image, "is_animated", False))
    except Image.DecompressionBombError as bomb:
        # The GIF plugin looks at its frames' extent by itself; the rest is advice to developers.
        return Header(name, f"too large: {str(bomb).partition(',')[0]}")
    except Exception:  # the header may be one that only TensorFlow reads: the decoder decides
        return Header(name, None)


def _is_deep(encoded: bytes, name: str) -> bool:
    return name == "PNG" and encoded[24:25] == b"\x10"  # the bit depth in IHDR: PNG 11.2.1


def match(encoded: bytes, magic: Iterable[tuple[str, bytes]]) -> str | None:
    """Return the name whose pattern `encoded` begins with, or None."""
    for name, pattern in magic:
        head = encoded[: len(pattern)].ljust(len(pattern), b"\0")
        if all(want in (ord("?"), got) for want, got in zip(pattern, head, strict=True)):
            return name
    return None


def _why_no_format(encoded: bytes) -> str:
    name = match(encoded, _UNSUPPORTED_MAGIC)
    if name is None:
        try:
            name = Image.open(io.BytesIO(encoded)).format
        except Exception:  # Pillow's plugins raise whatever a hostile header leads them to
            return f"not an image: starts with {encoded[:8]!r}"
    return f"{name} is not supported (allowed: {', '.join(FORMATS)})"
