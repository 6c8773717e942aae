"""The decoder against Pillow, on generated images and on a folder of difficult files."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tlkit.data.pictures import decode as decoding
from tlkit.data.pictures import exif

NASTY = Path(__file__).resolve().parents[2] / "shared" / "data" / "nasty"
NASTY_FILES = sorted(NASTY.iterdir()) if NASTY.is_dir() else [NASTY]
needs_nasty = pytest.mark.skipif(not NASTY.is_dir(), reason=f"{NASTY} is not there")

# One trace for all calls: eager mode would build the branches anew for each image.
decode = tf.function(decoding.decode, input_signature=[tf.TensorSpec((), tf.string)])
orientation = tf.function(decoding.orientation, input_signature=[tf.TensorSpec((), tf.string)])


def drawn(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A smooth image without symmetry: a horizontal, a vertical and a diagonal ramp."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    ramps = [255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)]
    rgb = Image.fromarray(np.stack(ramps, axis=-1).astype(np.uint8))
    if mode in ("LA", "RGBA"):
        rgb.putalpha(Image.fromarray(ramps[2].astype(np.uint8)))
    return rgb.convert(mode)


def encode(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def as_pillow(encoded: bytes) -> np.ndarray:
    """What Pillow shows upright, on white; of 16-bit grey the upper byte, where it would clip."""
    image = Image.open(io.BytesIO(encoded))
    bmp, image = image.format == "BMP", ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    if bmp:  # its fourth byte is none
        return np.asarray(image.convert("RGB"))
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(white, layer).convert("RGB"))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def tiff(order: str = "<", tag: int = 0x0112, kind: int = 3, count: int = 1, value: int = 6):
    """A TIFF block with one entry; `order` as in `struct`."""
    number = struct.pack(
        order + ("HH" if kind in (3, 8) else "I"), *([value, 0][: 2 if kind in (3, 8) else 1])
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "HHHI", 1, tag, kind, count) + number + bytes(4)


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">HH", marker, len(payload) + 2) + payload


def chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(kind + payload)
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def jpeg_with(*segments: bytes) -> bytes:
    plain = encode(drawn(), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def app1(block: bytes) -> bytes:
    return segment(0xFFE1, b"Exif\0\0" + block)


# ---------------------------------------------------------------------------- orientation


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(form, options, value):
    tags = Image.Exif()
    tags[exif.ORIENTATION_TAG] = value
    encoded = encode(drawn(), form, exif=tags, **options)
    assert int(orientation(encoded)) == value
    assert difference(decode(encoded).numpy(), as_pillow(encoded)) < 0.5
    size = decoding.upright_size(encoded, decoding.read_header(encoded))
    assert size == as_pillow(encoded).shape[:2]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4, 8, 9, 13])
def test_both_byte_orders_and_all_integer_types_are_read(order, kind):
    encoded = jpeg_with(app1(tiff(order, kind=kind, value=8)))
    assert int(orientation(encoded)) == 8
    assert difference(decode(encoded).numpy(), as_pillow(encoded)) < 0.5


@pytest.mark.parametrize(
    "encoded",
    [
        jpeg_with(segment(0xFFE0, b"JFIF\0" + bytes(9)), segment(0xFFFE, b"note"), app1(tiff())),
        jpeg_with(segment(0xFFE2, bytes(65_000)), segment(0xFFE2, bytes(65_000)), app1(tiff())),
        jpeg_with(b"\xff\xff\xff" + app1(tiff())),
        jpeg_with(segment(0xFFE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), app1(tiff())),
        jpeg_with(segment(0xFFFE, b"note"), b"stray" + app1(tiff())),
        jpeg_with(segment(0xFFFE, b"note"), b"\0\xff\0\xff\xd0" + app1(tiff())),
        jpeg_with(segment(0xFFE1, b"Exif\0\1" + tiff(value=3)), app1(tiff())),
        jpeg_with(app1(b"Exif\0\0" + tiff())),
        jpeg_with(app1(tiff(count=2))),
        jpeg_with(app1(tiff(count=3, value=22)[:-4] + b"\6\0" * 3)),
        jpeg_with(app1(tiff(kind=4, count=2, value=22)[:-4] + b"\6\0\0\0" * 2)),
        jpeg_with(app1(b""), app1(tiff())),
        jpeg_with(app1(b"II\0*" + tiff()[4:])),
    ],
    ids=[
        *("behind JFIF and comment", "behind 130 kB of ICC", "behind fill bytes", "behind XMP"),
        *("behind stray bytes", "behind a restart", "behind a wrong identifier"),
        *("twice identified", "of two values", "of three values", "of two long values"),
        *("behind an empty one", "of a magic number turned round"),
    ],
)
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_jpeg_exif_is_found_as_pillow_finds_it(encoded):
    assert int(orientation(encoded)) == 6
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == 6


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_png_exif_is_found_before_and_after_the_pixels(before):
    plain = encode(drawn(), "PNG")
    at = plain.index(before) - 4
    encoded = plain[:at] + chunk(b"eXIf", tiff()) + plain[at:]
    assert int(orientation(encoded)) == 6
    assert difference(decode(encoded).numpy(), as_pillow(encoded)) == 0


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_webp_exif_is_read_with_and_without_the_jpeg_identifier(prefix):
    whole = encode(drawn(), "WEBP", lossless=True, exif=tiff(value=1))
    payload = prefix + tiff(value=6)
    body = whole[12 : whole.index(b"EXIF")] + b"EXIF" + struct.pack("<I", len(payload)) + payload
    encoded = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    assert int(orientation(encoded)) == 6
    assert decode(encoded).shape == (40, 24, 3)


@pytest.mark.parametrize(
    "encoded",
    [
        jpeg_with(),
        jpeg_with(app1(b"")),
        jpeg_with(app1(b"no TIFF here")),
        jpeg_with(app1(tiff()[:15])),
        jpeg_with(app1(tiff(value=0))),
        jpeg_with(app1(tiff(value=9))),
        jpeg_with(app1(tiff(count=0))),
        jpeg_with(app1(tiff(kind=1))),
        jpeg_with(app1(tiff(kind=2))),
        jpeg_with(app1(tiff(kind=11))),
        jpeg_with(app1(tiff(kind=99))),
        jpeg_with(app1(tiff(kind=4, value=2**32 - 1))),
        jpeg_with(app1(tiff(tag=0x0113))),
        jpeg_with(app1(b"II*\0" + b"\xff" * 4)),
        jpeg_with(app1(b"MM\0*" + b"\0\0\0\x08" + b"\xff\xff")),
        jpeg_with(segment(0xFFFE, app1(tiff()))),
        encode(drawn(), "PNG")[:33] + b"\xff\xff\xff\xffeXIf",
        b"\xff\xd8\xff\xe1\x00\x00Exif\0\0",
        b"\xff\xd8\xff\xe1\xff\xffExif\0",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"text",
        b"",
    ],
)
def test_absent_broken_and_absurd_exif_means_upright(encoded):
    assert int(orientation(encoded)) == 1


# ---------------------------------------------------------------------------- formats


def sixteen_bit_png() -> bytes:
    levels = np.arange(40 * 24, dtype=np.uint16).reshape(24, 40) * 68
    return encode(Image.fromarray(levels), "PNG")


def animation(mode: str, form: str, **options) -> bytes:
    first = drawn(mode)
    frames = [ImageOps.mirror(first)]
    return encode(first, form, save_all=True, append_images=frames, **options)


IMAGES = {
    **{f"PNG {mode}": encode(drawn(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")},
    "PNG 16 bit": sixteen_bit_png(),
    "PNG palette, transparent": encode(drawn("P"), "PNG", transparency=3),
    **{f"BMP {mode}": encode(drawn(mode), "BMP") for mode in ("RGB", "RGBA", "L", "P", "1")},
    **{f"BMP width {n}": encode(drawn("RGB", (n, 5)), "BMP") for n in (1, 2, 3)},
    "BMP, bytes behind the pixels": encode(drawn(), "BMP") + b"\0\0",
    "GIF": encode(drawn("P"), "GIF"),
    "GIF animation": animation("P", "GIF"),
    "WebP lossy": encode(drawn(), "WEBP"),
    "WebP lossless": encode(drawn(), "WEBP", lossless=True),
    "WebP alpha": encode(drawn("RGBA"), "WEBP", lossless=True),
    "WebP animation": animation("RGB", "WEBP", lossless=True),
    "WebP animation, alpha": animation("RGBA", "WEBP", lossless=True),
    **{f"JPEG {mode}": encode(drawn(mode), "JPEG") for mode in ("RGB", "L", "CMYK")},
    "JPEG progressive": encode(drawn(), "JPEG", progressive=True),
    "JPEG stored as RGB": encode(drawn(), "JPEG", keep_rgb=True),
}


@pytest.mark.parametrize("name", IMAGES)
def test_formats_give_the_pixels_that_pillow_gives(name):
    image = decode(IMAGES[name])
    assert image.dtype == tf.uint8
    assert difference(image.numpy(), as_pillow(IMAGES[name])) < 0.5
    assert decoding.why_undecodable(IMAGES[name]) is None


def test_bmp_rows_from_the_top_are_not_turned():
    bottom_up = encode(drawn(), "BMP")
    rows = np.frombuffer(bottom_up[54:], np.uint8).reshape(24, -1)[::-1].tobytes()
    top_down = bottom_up[:22] + struct.pack("<i", -24) + bottom_up[26:54] + rows
    np.testing.assert_array_equal(decode(top_down), decode(bottom_up))


def test_first_gif_frame_keeps_its_place_on_the_canvas():
    frame = encode(drawn("P", (4, 3)), "GIF")
    at = frame.index(b"\x2c")
    placed = struct.pack("<HHHH", 2, 1, 4, 3)
    encoded = frame[:6] + struct.pack("<HH", 9, 7) + frame[10 : at + 1] + placed + frame[at + 9 :]
    image = decode(encoded).numpy()
    assert image.shape == (7, 9, 3)
    np.testing.assert_array_equal(image[1:4, 2:6], as_pillow(frame))
    image[1:4, 2:6] = 255
    assert (image == 255).all()


def test_format_is_told_by_the_bytes_and_others_raise_in_the_graph():
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG, PNG, GIF, BMP, WebP"):
        decode(encode(drawn(), "TIFF"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP"):
        decode(encode(drawn(), "BMP")[:-1])


@pytest.mark.parametrize("name", [name for name in IMAGES if "BMP" in name or "GIF" in name])
def test_a_cut_file_raises_what_python_can_read(name):
    encoded = IMAGES[name].replace(IMAGES[name][2:4], b"\xff\xfe", 1)
    for length in (3, 15, 30, 60, len(encoded) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(encoded[:length])


# ---------------------------------------------------------------------------- refusals


def png_bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def bmp_bomb() -> bytes:
    plain = encode(drawn(), "BMP")
    return plain[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + plain[26:]


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty file"),
        (b"no image", "not an image: starts with b'no image'"),
        (b"\x89PN", "not an image: starts with b'\\x89PN'"),
        (encode(drawn(), "TIFF"), "TIFF is not supported (allowed: JPEG, PNG, GIF, BMP, WebP)"),
        (encode(drawn(), "TGA"), "TGA is not supported"),
        (b"\0\0\0\x20ftypheic", "HEIC is not supported"),
        (IMAGES["JPEG RGB"][:400], "truncated or corrupt JPEG"),
        (IMAGES["PNG RGB"][:-20], "truncated or corrupt PNG"),
        (IMAGES["GIF"][:400], "truncated or corrupt GIF"),
        (IMAGES["BMP RGB"][:-1], "truncated or corrupt BMP"),
        (IMAGES["WebP lossless"][:-9], "truncated or corrupt WebP"),
        (b"BM", "truncated or corrupt BMP"),
        (b"GIF89a", "truncated or corrupt GIF"),
        (b"RIFF\4\0\0\0WEBP", "truncated or corrupt WebP"),
        (png_bomb(60_000, 60_000), "too large: 60000 x 60000 pixels, at most 178,956,970"),
        (png_bomb(20_000, 10_000), "too large: 20000 x 10000 pixels"),
        (bmp_bomb(), "too large: 2147483647 x 2147483647 pixels"),
    ],
)
def test_refusals_say_why(encoded, reason):
    assert decoding.why_undecodable(encoded).startswith(reason)


def test_a_bomb_is_never_decoded(monkeypatch):
    monkeypatch.setattr(decoding, "_graph_decoder", lambda: pytest.fail("decoded"))
    assert decoding.why_undecodable(png_bomb(60_000, 60_000)).startswith("too large")


def test_bmp_bomb_is_refused_in_the_graph_too():
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP"):
        decode(bmp_bomb())


def test_reasons_may_be_asked_from_several_threads():
    files = [IMAGES["JPEG RGB"], b"", IMAGES["PNG P"], b"no image"] * 8
    with ThreadPoolExecutor(4) as pool:
        reasons = list(pool.map(decoding.why_undecodable, files))
    assert [reason is None for reason in reasons] == [True, False] * 16


# ---------------------------------------------------------------------------- resizing


@pytest.mark.parametrize("size", [(40, 24), (16, 16), (7, 50)])
def test_resize_stretches_to_a_float_square(size):
    image = tf.constant(np.asarray(drawn("RGB", size)))
    resized = decoding.resize(image, 16)
    assert resized.shape == (16, 16, 3)
    assert resized.dtype == tf.float32
    as_layer = tf.keras.layers.Resizing(16, 16, antialias=True)(tf.cast(image, tf.float32))
    np.testing.assert_allclose(resized, as_layer, atol=1e-3)
    assert 0 <= float(tf.reduce_min(resized)) <= float(tf.reduce_max(resized)) < 255.001


@pytest.mark.parametrize("value", range(1, 9))
def test_decode_and_resize_is_decode_then_resize(value):
    encoded = jpeg_with(app1(tiff(value=value)))
    composed = decoding.resize(decode(encoded), 16)
    np.testing.assert_allclose(decoding.decode_and_resize(encoded, 16), composed, atol=0.01)


# ---------------------------------------------------------------------------- graphs


def test_pipeline_and_map_fn_answer_as_eager_mode():
    encoded = [IMAGES[name] for name in ("JPEG RGB", "PNG P", "GIF", "BMP P", "WebP animation")]
    encoded.append(jpeg_with(app1(tiff())))

    def prepare(item):
        return decoding.decode_and_resize(item, 16)

    eager = np.stack([prepare(item) for item in encoded])
    files = tf.data.Dataset.from_tensor_slices(encoded)
    mapped = files.map(prepare, num_parallel_calls=2).batch(len(encoded))
    assert mapped.element_spec.shape == (None, 16, 16, 3)
    np.testing.assert_array_equal(next(iter(mapped)), eager)
    at_once = tf.map_fn(prepare, tf.constant(encoded), fn_output_signature=tf.float32)
    np.testing.assert_array_equal(at_once, eager)


class Decoder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def pixels(self, encoded):
        return decoding.decode(encoded)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def squares(self, encoded):
        return tf.map_fn(
            lambda item: decoding.decode_and_resize(item, 16),
            encoded,
            fn_output_signature=tf.TensorSpec((16, 16, 3), tf.float32),
        )


def test_reloaded_saved_model_answers_the_same_pixels(tmp_path):
    tf.saved_model.save(Decoder(), str(tmp_path))
    reloaded = tf.saved_model.load(str(tmp_path))
    encoded = [*IMAGES.values(), jpeg_with(app1(tiff(">", value=7)))]
    for item in encoded:
        np.testing.assert_array_equal(reloaded.pixels(item), decoding.decode(item))
    squares = np.stack([decoding.decode_and_resize(item, 16) for item in encoded])
    np.testing.assert_array_equal(reloaded.squares(tf.constant(encoded)), squares)
    with pytest.raises(tf.errors.InvalidArgumentError, match="allowed"):
        reloaded.pixels(b"no image")


# ---------------------------------------------------------------------------- difficult files


def pillow_takes(encoded: bytes) -> bool:
    try:
        Image.open(io.BytesIO(encoded)).convert("RGB")
    except Exception:
        return False
    return True


def tensorflow_takes(encoded: bytes) -> bool:
    try:
        tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.OpError:
        return False
    return True


@needs_nasty
@pytest.mark.parametrize("path", NASTY_FILES, ids=lambda path: path.name)
def test_difficult_files_decode_as_in_pillow_or_say_why(path):
    encoded = path.read_bytes()
    reason = decoding.why_undecodable(encoded)
    if reason is None:
        assert difference(decode(encoded).numpy(), as_pillow(encoded)) < 2
    elif not reason.startswith("too large"):
        assert not (pillow_takes(encoded) and tensorflow_takes(encoded)), reason


@needs_nasty
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("16bit.cropped.tif", "TIFF is not supported"),
        ("cut_short.jpg", "truncated or corrupt JPEG"),
        ("decompression_bomb.gif", "too large: 65535 x 66601 pixels, at most"),
        ("decompression_bomb.ico", "ICO is not supported"),
        ("hopper_16bit.pgm", "PPM is not supported"),
        ("text.jpg", "not an image: starts with b'"),
        ("truncated_image.png", "truncated or corrupt PNG"),
        ("twelve_bit.jpg", "12-bit JPEG is not supported"),
        ("zero_bytes.jpg", "empty file"),
    ],
)
def test_difficult_files_are_refused_in_words(name, reason):
    assert decoding.why_undecodable((NASTY / name).read_bytes()).startswith(reason)


@needs_nasty
@pytest.mark.parametrize("turned", [3, 6, 8])
def test_turned_photographs_show_one_scene(turned):
    """At the size of a model's input, where the noise of compressing them anew has gone."""

    def look(number):
        encoded = (NASTY / f"Landscape_{number}.jpg").read_bytes()
        return decoding.decode_and_resize(encoded, 224).numpy()

    assert difference(look(turned), look(1)) < 2
