"""How large an image is by its own header, and how many passes decoding it takes.

Read here and not by Pillow, which gives up a whole header for one broken chunk that no decoder
looks at: a size that is not known could not be held against the limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tlkit.data.pictures.gif_bmp_webp import MAX_PIXELS, MAX_SCANNED, MAX_SCANS, SCAN, SCAN_BYTES

_NO_FRAME = {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC among the start-of-frame markers: T.81, table B.1
_ALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0 to RST7 and SOI have no length: T.81, B.1.1.3
_EOI, _SOS = 0xD9, 0xDA


class JpegFrame(NamedTuple):
    """What a frame header says: bits a sample, height and width (T.81, B.2.2)."""

    precision: int
    height: int
    width: int


def size_of(encoded: bytes, name: str) -> tuple[int, int] | None:
    """Return (width, height) as stored, of a GIF's canvas; None if there is no header for it.

    Args:
        name: the format, as `header.MAGIC` tells it.
    """
    try:
        return _READERS[name](encoded)
    except struct.error:  # it ends within its header
        return None


def too_large(encoded: bytes, name: str, size: tuple[int, int]) -> str | None:
    """Say why an image of this size is not to be decoded; None if it is within the limits."""
    width, height = size
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels, at most {MAX_PIXELS:,} are allowed"
    if name == "JPEG":
        scans = encoded.count(SCAN) - len(encoded) // SCAN_BYTES
        allowed = min(MAX_SCANS, MAX_SCANNED // max(1, width * height))
        if scans > allowed:
            return f"too many scans of {width} x {height} pixels: {scans:,}, allowed: {allowed}"
    return None


def jpeg_frames(encoded: bytes) -> Iterator[JpegFrame]:
    """Yield the frame headers that stand before the first scan; libjpeg takes a single one."""
    position, size = 2, len(encoded)
    while (position := encoded.find(b"\xff", position)) >= 0 and position + 1 < size:
        marker = encoded[position + 1]
        if marker == 0xFF:  # any number of them may lead a marker
            position += 1
        elif marker == 0 or marker in _ALONE:
            position += 2
        elif marker in (_SOS, _EOI) or position + 9 > size:  # or it ends before a frame could
            return
        else:
            if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
                yield JpegFrame(*struct.unpack_from(">BHH", encoded, position + 4))
            position += 2 + struct.unpack_from(">H", encoded, position + 2)[0]


def _jpeg(encoded: bytes) -> tuple[int, int] | None:
    frames = list(jpeg_frames(encoded))
    return max(((f.width, f.height) for f in frames), key=lambda s: s[0] * s[1], default=None)


def _png(encoded: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", encoded, 16) if encoded[12:16] == b"IHDR" else None


def gif_boxes(encoded: bytes) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return (width, height) of a GIF's canvas and (left, top, width, height) of its first frame.

    Raises:
        struct.error: it ends within its header.
    """
    width, height, packed = struct.unpack_from("<HHB", encoded, 6)
    position = 13 + (3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0)
    while encoded[position : position + 1] == b"\x21":  # GIF89a, section 23 to 26: extensions
        position += 2
        while length := struct.unpack_from("B", encoded, position)[0]:
            position += 1 + length
        position += 1
    if encoded[position : position + 1] != b"\x2c":
        return None
    return (width, height), struct.unpack_from("<HHHH", encoded, position + 1)


def _gif(encoded: bytes) -> tuple[int, int] | None:
    boxes = gif_boxes(encoded)
    if boxes is None:
        return None
    (width, height), (left, top, own_width, own_height) = boxes
    return max(width, left + own_width), max(height, top + own_height)


def _bmp(encoded: bytes) -> tuple[int, int] | None:
    if struct.unpack_from("<I", encoded, 14)[0] == 12:  # BITMAPCOREHEADER
        return struct.unpack_from("<HH", encoded, 18)
    width, height = struct.unpack_from("<Ii", encoded, 18)
    return width, abs(height)


def _webp(encoded: bytes) -> tuple[int, int] | None:
    """Source: as for `pixels.webp`."""
    kind, octets = encoded[12:16], encoded[20:30]
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", octets, 1)[0]
        return bits % 2**14 + 1, bits // 2**14 % 2**14 + 1
    if len(octets) < 10 or kind not in (b"VP8X", b"VP8 "):
        return None
    if kind == b"VP8X":
        return tuple(int.from_bytes(octets[i : i + 3], "little") + 1 for i in (4, 7))
    return tuple(side % 2**14 for side in struct.unpack_from("<HH", octets, 6))


_READERS = {"JPEG": _jpeg, "PNG": _png, "GIF": _gif, "BMP": _bmp, "WebP": _webp}
