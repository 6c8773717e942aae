"""What the first bytes of an image say: its format, mode, size; nothing is decoded."""

from __future__ import annotations

import io
import re
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

from tlkit.data.pictures.sizes import gif_boxes, jpeg_frames, size_of, too_large

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

_CONTROL_GIF = re.compile(rb"!\xf9\x04(.)", re.DOTALL)  # the extension, and its flags

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
"""How the samples of an image are stored; 16-bit whatever the colours."""


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        format: one of `FORMATS`, or None.
        problem: why the image is not to be decoded, or None.
        mode: one of `MODES`; None where Pillow cannot read the header.
        width, height: in pixels, as stored; 0 where there is no such header.
        several: whether further images follow the first (GIF, APNG and WebP animations).
        deep: whether it is a PNG of 16 bits a sample.
        layered: whether pixels of it may be transparent.
    """

    format: str | None
    problem: str | None
    mode: str | None = None
    width: int = 0
    height: int = 0
    several: bool = False
    deep: bool = False
    layered: bool = False


def read_header(encoded: bytes) -> Header:
    """Read the header of an encoded image; may be called from several threads.

    More than `MAX_PIXELS` pixels are a problem, and so are more scans of a JPEG than `MAX_SCANS`:
    such an image is never to be decoded, nor one that does not tell its size.
    """
    if not encoded:
        return Header(None, "empty file")
    name = match(encoded, MAGIC.items())
    if name is None:
        return Header(None, _why_no_format(encoded))
    size = size_of(encoded, name)
    if size is None or 0 in size:
        return Header(name, damaged(encoded, name))
    deep = is_deep(encoded)
    problem, mode, several = too_large(encoded, name, size), "16-bit" if deep else None, False
    if not problem:
        mode, several = _asked(encoded, name, mode)
    return Header(name, problem, mode, *size, several, deep, _is_layered(encoded, name))


def _asked(encoded: bytes, name: str, mode: str | None) -> tuple[str | None, bool]:
    """Return the mode and whether it is an animation, as far as Pillow can tell."""
    try:
        with _PLUGINS[name](io.BytesIO(encoded)) as image:
            mode = mode or _MODES.get(image.mode)
            return mode, getattr(image, "is_animated", False)
    except Exception:  # the header may be one that only TensorFlow reads: the decoder decides
        return mode, False


def is_deep(encoded: bytes) -> bool:
    """Tell whether a file is a PNG of 16 bits a sample (IHDR: PNG 11.2.1)."""
    return encoded.startswith(MAGIC["PNG"]) and encoded[24:25] == b"\x10"


def _is_layered(encoded: bytes, name: str) -> bool:
    if name == "PNG":
        return encoded[25:26] in (b"\4", b"\6") or b"tRNS" in encoded
    if name == "WebP":  # RFC 9649: VP8X's flags for alpha and animation, VP8L's alpha_is_used
        where = {b"VP8X": (20, 0x12), b"VP8L": (24, 0x10)}.get(encoded[12:16])
        return where is not None and bool(encoded[where[0]] & where[1])
    if name == "GIF":  # GIF89a, section 23: the flag of the transparent colour; or a bare canvas
        canvas, frame = gif_boxes(encoded)
        return frame != (0, 0, *canvas) or any(
            flags[0] & 1 for flags in _CONTROL_GIF.findall(encoded)
        )
    return False


def damaged(encoded: bytes, name: str) -> str:
    """Say of a file of this format that it cannot be decoded."""
    if name == "JPEG" and any(frame.precision == 12 for frame in jpeg_frames(encoded)):
        return "12-bit JPEG is not supported"
    if name == "BMP":
        return "truncated or corrupt BMP, or not of 1, 4, 8, 24 or 32 bits uncompressed"
    return f"truncated or corrupt {name}"


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
