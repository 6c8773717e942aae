"""Images above the limits are refused by their headers, by the scan and in the graph alike."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_decode import (
    animation,
    app1,
    bmp_bomb,
    chunk,
    decode,
    drawn,
    encode,
    jpeg_with,
    png_bomb,
    segment,
    tiff,
)

from tlkit.data.pictures import gif_bmp_webp as pixels
from tlkit.data.pictures.decode import why_undecodable
from tlkit.data.pictures.header import read_header
from tlkit.data.pictures.sizes import size_of

PLAIN = {form: encode(drawn(), form) for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP")}


def png_with(*chunks: bytes, encoded: bytes = PLAIN["PNG"]) -> bytes:
    """A PNG with chunks between IHDR and what follows it."""
    return encoded[:33] + b"".join(chunks) + encoded[33:]


def bad_checksum(kind: bytes, payload: bytes) -> bytes:
    return chunk(kind, payload)[:-1] + b"?"


def frame_of(encoded: bytes, height: int, width: int, count: int = 1) -> bytes:
    """A JPEG whose frame header tells another size, `count` times."""
    at = next(i for i in (encoded.find(b"\xff\xc0"), encoded.find(b"\xff\xc2")) if i > 0)
    length = struct.unpack(">H", encoded[at + 2 : at + 4])[0] + 2
    head = encoded[at : at + 5] + struct.pack(">HH", height, width) + encoded[at + 9 : at + length]
    return encoded[:at] + head * count + encoded[at + length :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times."""
    encoded = encode(drawn(), "JPEG", progressive=True)
    last = encoded[encoded.rindex(b"\xff\xda") : -2]
    return encoded[:-2] + last * (count - 1) + encoded[-2:]


def webp_sized(kind: bytes, payload: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", len(body)) + body


BROKEN = {
    "gAMA of one byte": chunk(b"gAMA", b"\1"),
    "pHYs of one byte": chunk(b"pHYs", b"\1"),
    "tEXt with a wrong checksum": bad_checksum(b"tEXt", b"Title\0me"),
    "cHRM of two bytes": chunk(b"cHRM", b"\1\2"),
    "iCCP that is no zlib": chunk(b"iCCP", b"me\0\0nothing"),
    "zTXt of many zeros": chunk(b"zTXt", b"me\0\0" + zlib.compress(bytes(50_000_000), 9)),
    "iCCP of many zeros": chunk(b"iCCP", b"me\0\0" + zlib.compress(bytes(50_000_000), 9)),
    "iTXt of many zeros": chunk(b"iTXt", b"me\0\1\0\0\0" + zlib.compress(bytes(50_000_000), 9)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chunk_hides_no_size(name):
    small, large = png_with(BROKEN[name]), png_with(BROKEN[name], encoded=png_bomb(22_000, 22_000))
    header = read_header(small)
    assert (header.width, header.height, header.problem) == (40, 24, None)
    if why_undecodable(small) is None:
        np.testing.assert_array_equal(decode(small), decode(PLAIN["PNG"]))
    assert why_undecodable(large).startswith("too large: 22000 x 22000 pixels")
    with pytest.raises(tf.errors.InvalidArgumentError, match="PNG is too large"):
        decode(large)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow
@pytest.mark.parametrize(
    "first",
    [
        segment(0xFFEE, b"Adobe\0"),
        segment(0xFFE0, b"JFIF"),
        segment(0xFFE0, b"JFIF\0\1"),
        segment(0xFFED, b"Photoshop 3.0\x008BIM"),
        app1(b"II*\0" + b"\xff" * 4),
        segment(0xFFFE, b"note") + b"stray bytes",
        segment(0xFFFE, b"\xff\xc0\0\x0b\x08\0\1\0\1\1"),
    ],
    ids=["APP14", "JFIF", "JFIF of six", "Photoshop", "EXIF", "stray", "a frame in a comment"],
)
def test_a_broken_segment_hides_no_size(first):
    small = jpeg_with(first)
    assert (read_header(small).width, read_header(small).height) == (40, 24)
    assert why_undecodable(small) is None
    large = frame_of(small[:2] + small[2 + len(first) :], 65_000, 65_000)
    large = large[:2] + first + large[2:]
    assert why_undecodable(large).startswith("too large: 65000 x 65000 pixels")
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG is too large"):
        decode(large)


LARGE = {
    "PNG": png_bomb(2**32 - 1, 2**32 - 1),
    "JPEG, progressive": frame_of(encode(drawn(), "JPEG", progressive=True), 60_000, 60_000),
    "GIF canvas": PLAIN["GIF"][:6] + b"\xff\xff\xff\xff" + PLAIN["GIF"][10:],
    "GIF frame": PLAIN["GIF"].replace(b"\x2c\0\0\0\0\x28\0\x18\0", b"\x2c\0\0\0\0\xff\xff\xff\xff"),
    "BMP": bmp_bomb(),
    "WebP extended": webp_sized(b"VP8X", b"\0\0\0\0" + b"\xff\xff\xff" * 2),
    "WebP lossless": webp_sized(b"VP8L", b"\x2f" + b"\xff\xff\xff\x0f" + bytes(9)),
    "WebP lossy": webp_sized(b"VP8 ", b"\x10\0\0\x9d\1\x2a" + b"\xff\x3f\xff\x3f" + bytes(9)),
    "WebP animation": (lambda w: w[:24] + b"\xff\xff\0" * 2 + w[30:])(animation("RGB", "WEBP")),
}


@pytest.mark.parametrize("name", LARGE)
def test_each_format_is_refused_before_it_is_decoded(name):
    assert why_undecodable(LARGE[name]).startswith("too large: ")
    with pytest.raises(tf.errors.InvalidArgumentError, match="is too large|truncated BMP"):
        decode(LARGE[name])


@pytest.mark.parametrize("form", PLAIN)
def test_sizes_are_those_that_pillow_reads(form):
    name = "WebP" if form == "WEBP" else form
    for size in ((40, 24), (1, 1), (300, 7)):
        assert size_of(encode(drawn("RGB", size), form), name) == size
    for options in ({"lossless": True}, {"exif": tiff()}) if form == "WEBP" else ():
        assert size_of(encode(drawn(), form, **options), name) == (40, 24)


@pytest.mark.parametrize("form", PLAIN)
def test_a_file_cut_in_its_header_is_corrupt(form):
    for length in range(12, 30):
        cut = PLAIN[form][:length]
        assert why_undecodable(cut).startswith("truncated or corrupt")
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(cut)


@pytest.mark.parametrize("height", [0, 24])
def test_frames_that_no_decoder_takes_are_corrupt(height):
    """Height 0 leaves it to a segment behind the pixels (DNL), which libjpeg does not support."""
    encoded = frame_of(PLAIN["JPEG"], height, 40, count=1 if height == 0 else 2)
    assert why_undecodable(encoded) == "truncated or corrupt JPEG"
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(encoded)


def test_the_larger_of_two_frames_is_held_against_the_limit():
    small, at = PLAIN["JPEG"], PLAIN["JPEG"].index(b"\xff\xc0")
    large = frame_of(small, 60_000, 60_000)
    both = small[: at + 19] + large[at:]
    assert why_undecodable(both).startswith("too large: 60000 x 60000")


# Scans of a JPEG


@pytest.mark.parametrize("count", [2, 100, 400])
def test_some_scans_are_taken(count):
    assert why_undecodable(many_scans(count)) is None
    assert decode(many_scans(count)).shape == (24, 40, 3)


@pytest.mark.parametrize("count", [520, 5000])
def test_thousands_of_scans_are_refused(count):
    said = why_undecodable(many_scans(count))
    assert said.startswith("too many scans of 40 x 24 pixels: ")
    assert said.endswith("allowed: 500")
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many scans"):
        decode(many_scans(count))


def test_large_images_may_have_fewer_scans():
    encoded = frame_of(many_scans(80), 13_000, 13_000)
    assert why_undecodable(encoded).startswith("too many scans of 13000 x 13000 pixels: ")
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many scans"):
        decode(encoded)


def test_a_film_behind_an_image_counts_as_no_scans():
    """Phones put one there; by chance it holds the marker once in 2**16 bytes."""
    film = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8).tobytes()
    film += b"".join(film[i : i + 2**15] + b"\xff\xda" for i in range(0, 2**20, 2**15))
    encoded = PLAIN["JPEG"] + film * 12
    assert encoded.count(b"\xff\xda") > pixels.MAX_SCANS
    assert why_undecodable(encoded) is None
    np.testing.assert_array_equal(decode(encoded), decode(PLAIN["JPEG"]))


# Animations, of which the first frame counts


def test_further_frames_of_a_gif_are_not_unpacked():
    """Each of the others would take 4 GB: TensorFlow unpacks all frames to answer the first."""
    first = encode(drawn("P"), "GIF")
    huge = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x08" + b"\x04\0\1\2\3" + b"\0"
    encoded = first[:-1] + huge * 20_000 + first[-1:]
    assert why_undecodable(encoded) is None
    np.testing.assert_array_equal(decode(encoded), decode(first))


@pytest.mark.parametrize("block", [1, 7, 254, 255])
def test_gif_data_in_blocks_of_any_length(block):
    first = encode(drawn("P", (90, 70)), "GIF")
    at = first.index(b"\x2c\0\0\0\0") + 10
    data, position = b"", at + 1
    while length := first[position]:
        data += first[position + 1 : position + 1 + length]
        position += 1 + length
    pieces = (data[i : i + block] for i in range(0, len(data), block))
    blocks = b"".join(bytes([len(piece)]) + piece for piece in pieces)
    encoded = first[: at + 1] + blocks + b"\0" + first[position + 1 :]
    np.testing.assert_array_equal(decode(encoded), decode(first))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(encoded[: at + 1 + len(blocks) // 2])


# EXIF


def mutants(count: int):
    """JPEGs with EXIF, each with a few bytes before its tables changed, taken out or put in."""
    random = np.random.default_rng(0)
    for _ in range(count):
        block = tiff("<>"[random.integers(2)], value=int(random.integers(1, 9)))
        stray = random.integers(0, 255, random.integers(0, 4), dtype=np.uint8).tobytes()
        twice = b"Exif\0\0" * int(random.integers(0, 2))
        encoded = bytearray(jpeg_with(segment(0xFFFE, b"note"), stray, app1(twice + block)))
        end = encoded.index(b"\xff\xdb")
        for _ in range(random.integers(0, 3)):
            at, kind = int(random.integers(2, end)), random.integers(3)
            octet = int(random.choice([0, 1, 2, 3, 4, 6, 8, 255, random.integers(256)]))
            if kind == 0:
                encoded[at] = octet
            elif kind == 1:
                del encoded[at]
            else:
                encoded.insert(at, octet)
        yield bytes(encoded)


@pytest.mark.filterwarnings("ignore")
def test_mutated_exif_turns_as_pillow_turns():
    import io

    from test_decode import orientation

    compared = 0
    for encoded in mutants(300):
        try:
            turn = Image.open(io.BytesIO(encoded)).getexif().get(0x0112, 1)
            decode(encoded)
        except Exception:  # Pillow or libjpeg has none of it
            continue
        compared += 1
        want = turn if turn in range(1, 9) else 1
        assert int(orientation(encoded)) == want, encoded[: encoded.index(b"\xff\xdb")]
    assert compared > 150
