"""Transparency and 16-bit samples: as every viewer shows them, the same way through all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import TINY, write_images
from PIL import Image, ImageDraw
from test_decode import animation, as_pillow, chunk, drawn, encode

import tlkit
from tlkit.cli.main import main
from tlkit.data.example import Example
from tlkit.data.pictures.decode import decode, why_undecodable
from tlkit.data.pictures.rendering import PLAIN, Rendering, blend_array, smallest_bits
from tlkit.data.readers.open import open_source
from tlkit.data.scan.inspect import look
from tlkit.data.scan.scan import scan
from tlkit.export.savedmodel import SavedModel
from tlkit.progress import Progress

QUIET = Progress(quiet=True)
FIELDS = {**TINY, "regime": "small"}


def shown(encoded: bytes, **fields) -> np.ndarray:
    return decode(tf.constant(encoded), Rendering(**fields)).numpy()


def on(ground: str, encoded: bytes) -> np.ndarray:
    """What Pillow's `alpha_composite` makes of an image."""
    import io

    layer = Image.open(io.BytesIO(encoded)).convert("RGBA")
    below = Image.new("RGBA", layer.size, ground)
    return np.asarray(Image.alpha_composite(below, layer).convert("RGB"))


def offset_gif(encoded: bytes) -> bytes:
    """The same frame, right and below of the corner of a larger canvas."""
    at = encoded.index(b"\x2c\0\0\0\0")
    moved = encoded[: at + 1] + b"\3\0\2\0" + encoded[at + 5 :]
    return moved[:6] + b"\x32\0\x20\0" + moved[10:]


def holed(mode: str = "P") -> Image.Image:
    """An image of 8 colours, the third of which can be made transparent."""
    return drawn().quantize(8).convert(mode) if mode != "P" else drawn().quantize(8)


LAYERED = {
    "PNG RGBA": encode(drawn("RGBA"), "PNG"),
    "PNG LA": encode(drawn("LA"), "PNG"),
    "PNG palette, one index": encode(holed(), "PNG", transparency=2),
    "PNG palette, alpha of each": encode(holed(), "PNG", transparency=bytes([0, 90, 180, 255])),
    "PNG grey, one level": encode(holed("L"), "PNG", transparency=holed("L").getpixel((5, 5))),
    "PNG RGB, one colour": encode(holed("RGB"), "PNG", transparency=holed("RGB").getpixel((5, 5))),
    "PNG of one bit": encode(drawn("1"), "PNG", transparency=0),
    "GIF": encode(holed(), "GIF", transparency=2),
    "GIF, interlaced": encode(holed(), "GIF", transparency=2, interlace=1),
    "GIF, first of three": encode(
        holed(), "GIF", transparency=2, save_all=True, append_images=[drawn("P")] * 2
    ),
    "WebP lossy": encode(drawn("RGBA"), "WEBP"),
    "WebP lossless": encode(drawn("RGBA"), "WEBP", lossless=True),
    "WebP animation": animation("RGBA", "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("ground", ["white", "black"])
def test_transparent_pixels_are_blended_as_pillow_does(name, ground):
    encoded = LAYERED[name]
    got = shown(encoded, alpha=ground).astype(int)
    assert np.abs(got - on(ground, encoded)).max() <= 1
    other = "black" if ground == "white" else "white"
    assert np.abs(got - shown(encoded, alpha=other)).max() > 50
    assert why_undecodable(encoded) is None


def test_what_a_gif_leaves_of_its_canvas_is_the_ground():
    encoded = offset_gif(LAYERED["GIF"])
    for ground, level in (("white", 255), ("black", 0)):
        image = shown(encoded, alpha=ground)
        assert image.shape == (32, 50, 3)
        np.testing.assert_array_equal(image[2:26, 3:43], shown(LAYERED["GIF"], alpha=ground))
        assert (image[:2] == level).all()
        assert (image[:, 43:] == level).all()


def test_a_transparent_index_past_the_palette_is_the_ground():
    encoded = LAYERED["GIF"].replace(b"\x21\xf9\x04\x01\0\0\2", b"\x21\xf9\x04\x01\0\0\xc8")
    assert encoded != LAYERED["GIF"]
    opaque = encode(holed(), "GIF")
    np.testing.assert_array_equal(shown(encoded), shown(opaque))


def test_drop_shows_the_colours_under_alpha():
    pixels = np.asarray(drawn("RGBA"))
    np.testing.assert_array_equal(shown(LAYERED["PNG RGBA"], alpha="drop"), pixels[..., :3])


def test_the_fourth_byte_of_a_bmp_is_no_alpha():
    clear = np.asarray(drawn("RGBA")).copy()
    clear[..., 3] = 0
    encoded = encode(Image.fromarray(clear), "BMP")
    np.testing.assert_array_equal(shown(encoded), clear[..., :3])


def test_large_images_are_blended_row_by_row(monkeypatch):
    from tlkit.data.pictures import rendering

    whole = shown(LAYERED["PNG RGBA"])
    monkeypatch.setattr(rendering, "BLOCK", 100)
    np.testing.assert_array_equal(shown(LAYERED["PNG RGBA"]), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_are_blended_likewise(dtype):
    pixels = np.asarray(drawn("RGBA"))
    got = blend_array(pixels.astype(dtype), PLAIN)
    assert got.dtype == dtype
    assert np.abs(got.astype(float) - shown(LAYERED["PNG RGBA"])).max() <= 1


# 16 bits


def deep_png(levels: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 (height, width) or (height, width, 2 to 4): grey, LA, RGB or RGBA."""
    import struct
    import zlib

    height, width = levels.shape[:2]
    channels = 1 if levels.ndim == 2 else levels.shape[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = levels.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


RAMP = np.linspace(0, 4095, 24 * 40).astype(np.uint16).reshape(24, 40)


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(1, 8), (255, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (16_384, 16), (65_535, 16)],
)
def test_the_fewest_bits_that_hold_the_largest_sample(largest, bits):
    assert smallest_bits(largest) == bits


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bits_are_read_by_their_low_bits_and_clipped_to_white(bits, channels):
    levels = RAMP if channels == 1 else np.stack([RAMP, RAMP // 2, RAMP * 16], axis=-1)
    want = np.minimum(levels, 2**bits - 1) >> (bits - 8)
    if channels == 1:
        want = np.repeat(want[..., None], 3, axis=-1)
    np.testing.assert_array_equal(shown(deep_png(levels), bits=bits), want)


@pytest.mark.parametrize("bits", [12, 16])
def test_alpha_of_16_bits_is_blended(bits):
    alpha = np.linspace(0, 65_535, 40).astype(np.uint16)[None].repeat(24, 0)
    levels = np.stack([RAMP << (bits - 12)] * 3 + [alpha], axis=-1)
    colour, share = (levels[..., :3] >> (bits - 8)) / 1.0, (alpha >> 8)[..., None] / 255
    want = colour * share + 255 * (1 - share)
    assert np.abs(shown(deep_png(levels), bits=bits) - want).max() <= 1
    dropped = shown(deep_png(levels), bits=bits, alpha="drop")
    np.testing.assert_array_equal(dropped, colour)


def test_8_bit_files_do_not_care():
    encoded = encode(drawn(), "PNG")
    np.testing.assert_array_equal(shown(encoded, bits=8), shown(encoded))


# What a scan finds


def found(encoded: bytes, tmp_path, **fields):
    path = tmp_path / "one.png"
    path.write_bytes(encoded)
    return look(Example("a/one.png", "a", path), False, Rendering(**fields))


@pytest.mark.parametrize("name", LAYERED)
def test_transparency_is_found(name, tmp_path):
    finding = found(LAYERED[name], tmp_path)
    assert (finding.transparent, finding.alpha) == (True, "white")
    assert finding.variant(PLAIN) == f"{finding.digest}-white"
    assert finding.variant(Rendering("drop")) == finding.digest


@pytest.mark.parametrize(
    "encoded",
    [
        encode(drawn(), "PNG"),
        encode(drawn().convert("RGBA"), "PNG"),
        encode(drawn("P"), "GIF"),
        encode(drawn(), "WEBP"),
        encode(drawn(), "JPEG"),
        encode(drawn("RGBA"), "BMP"),
    ],
    ids=["PNG", "opaque RGBA", "GIF", "WebP", "JPEG", "BMP"],
)
def test_opaque_images_are_not_called_transparent(encoded, tmp_path):
    finding = found(encoded, tmp_path)
    assert (finding.transparent, finding.alpha, finding.flat) == (False, None, False)
    assert finding.variant(PLAIN) == finding.digest


def test_the_largest_sample_is_found_where_it_can_be_seen(tmp_path):
    levels = np.stack([RAMP] * 3 + [np.full_like(RAMP, 65_535)], axis=-1)
    levels[0] = [65_535, 65_535, 65_535, 0]  # white under alpha 0
    finding = found(deep_png(levels), tmp_path, bits=None)
    assert (finding.largest, finding.bits) == (4095, 12)
    assert found(deep_png(RAMP), tmp_path, bits=16).largest == 4095
    assert found(encode(drawn(), "PNG"), tmp_path).largest == 0


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_one_colour_is_found_in_each_format(form, tmp_path):
    assert found(encode(Image.new("RGB", (90, 70), (9, 80, 200)), form), tmp_path).flat
    dot = Image.new("RGB", (90, 70), (9, 80, 200))
    ImageDraw.Draw(dot).rectangle((40, 31, 44, 35), fill="white")
    assert not found(encode(dot, form), tmp_path).flat


def test_black_on_transparent_is_flat_only_where_alpha_is_dropped(tmp_path):
    logo = np.zeros((40, 40, 4), np.uint8)
    logo[10:30, 10:30, 3] = 255
    encoded = encode(Image.fromarray(logo), "PNG")
    assert not found(encoded, tmp_path).flat
    assert found(encoded, tmp_path, alpha="drop").flat
    assert found(encoded, tmp_path, alpha="black").flat
    array = Example("array/0", "a", pixels=logo)
    assert not look(array).flat
    assert look(array, False, Rendering("drop")).flat


# A whole run


def write_logos(folder, top: int = 0):
    """Black shapes on nothing; of 16 bits where `top` is above 0, without alpha."""
    write_images(folder, labels=("disc", "square"), count=8)
    for file in folder.rglob("*.png"):
        random = np.random.default_rng(int(file.stem[-2:]))
        drawn = Image.new("L", (32, 32))
        x, y = (int(v) for v in random.integers(2, 12, 2))
        draw = ImageDraw.Draw(drawn)
        form = draw.ellipse if file.parent.name == "disc" else draw.rectangle
        form((x, y, x + 16, y + 16), fill=255)
        mask = np.asarray(drawn)
        if top:
            levels = (mask / 255 * (top - int(file.stem[-2:]))).astype(np.uint16)
            file.write_bytes(deep_png(levels))
        else:
            layers = np.zeros((32, 32, 4), np.uint8)
            layers[..., 3] = mask
            file.write_bytes(encode(Image.fromarray(layers), "PNG"))
    return folder


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return write_logos(tmp_path_factory.mktemp("deep") / "deep", top=4095)


@pytest.fixture(scope="module")
def logos(tmp_path_factory):
    return write_logos(tmp_path_factory.mktemp("logos") / "logos")


@pytest.fixture(scope="module")
def deep_run(deep, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "deep"
    arguments = ["train", str(deep), "--out", str(out), "--regime", "small", "--image-size", "32"]
    arguments += ["--backbone", "MobileNet", "--set", "backbone.alpha=0.25"]
    result = CliRunner().invoke(main, [*arguments, "--set", "backbone.weights=none"])
    assert result.exit_code == 0, result.stderr
    return tlkit.open_run(out), result.stdout


def said(text: str) -> str:
    """The text without the breaks of lines that a terminal's width makes."""
    return " ".join(text.split())


def test_bits_are_said_and_kept_in_the_run(deep_run):
    run, text = deep_run
    line = "16 images, values up to 4,095: read as 12 bits (--set bits=16 for the whole range)"
    assert f"16-bit {line}" in said(text)
    assert (run.spec.bits, run.spec.alpha) == (12, "white")
    listed = json.loads((run.folder / "scan.json").read_text())["sixteen_bit"]
    assert (listed["count"], listed["largest"], listed["bits"]) == (16, 4095, 12)
    assert listed["clipped"] == {"count": 0, "ids": []}


def test_prediction_and_export_decode_as_the_run_did(deep_run, deep, tmp_path, capsys):
    run, _ = deep_run
    light = tmp_path / "light.png"
    light.write_bytes(deep_png(RAMP * 16))  # up to 65,520
    dark = tmp_path / "dark.png"
    dark.write_bytes(deep_png(RAMP // 4096 + 3))
    files = [*sorted((deep / "disc").iterdir())[:2], light, dark]
    rows = run.predict(files, progress=True)
    text = said(capsys.readouterr().out)
    assert "4 images, values up to 65,520: read as 12 bits, as in training" in text
    assert "values above 4,095 are white, in 1 image" in text
    exported = SavedModel(run.export(tmp_path / "served", progress=False))
    assert exported.rendering == Rendering("white", 12)
    answers = exported.predict_bytes([file.read_bytes() for file in files])
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(list(row["probabilities"].values()), answer, atol=1e-4)


@pytest.mark.full
def test_prepared_data_decides_as_the_folder_does(deep, tmp_path):
    tlkit.prepare_data(deep, tmp_path / "prepared", progress=False)
    index = (tmp_path / "prepared" / "index-train.jsonl").read_text().splitlines()
    assert json.loads(index[0])[4][1] > 4000
    for bits, want in (("auto", 12), (16, 16)):
        run = tlkit.train(
            tmp_path / "prepared", out=tmp_path / str(bits), bits=bits, progress=False, **FIELDS
        )
        assert run.spec.bits == want
        assert run.rendering.bits == want


def test_a_part_of_its_own_does_not_decide_and_is_clipped(deep, tmp_path, capsys):
    other = write_logos(tmp_path / "other", top=60_000)
    run = tlkit.train(deep, test=other, out=tmp_path / "run", **FIELDS)
    text = said(capsys.readouterr().out)
    assert "values up to 60,000: read as 12 bits" in text
    assert "values above 4,095 are white, in 16 images" in text
    run.evaluate(other)
    assert "values above 4,095 are white, in 16 images" in said(capsys.readouterr().out)
    assert run.spec.bits == 12


def test_logos_are_seen_on_white_and_flat_ones_are_told(logos, tmp_path, capsys):
    tlkit.plan(logos, **FIELDS)
    text = said(capsys.readouterr().out)
    assert "alpha transparent pixels of 16 images are shown on white" in text
    assert "flat" not in text
    tlkit.plan(logos, alpha="drop", **FIELDS)
    text = said(capsys.readouterr().out)
    assert "flat 16 images are of one colour once decoded (scan.json), such as disc/disc00" in text
    assert "hardly anything is left to learn from" in text
    assert "transparent pixels of 16 images are not heeded" in text


def test_a_range_that_is_too_wide_is_said(deep, deep_run, tmp_path, capsys):
    tlkit.plan(deep, bits=16, **FIELDS)
    text = said(capsys.readouterr().out)
    assert "read as 16 bits; they are dark, since that range goes to 65,535 (--set bits=12)" in text
    run, _ = deep_run
    dark = write_logos(tmp_path / "dark", top=200)
    run.evaluate(dark)
    text = said(capsys.readouterr().out)
    assert "read as 12 bits, as in training; they are dark, since that range goes to 4,095" in text
    run.predict(dark / "disc", progress=True)
    assert "8 images, values up to 200: read as 12 bits" in said(capsys.readouterr().out)


def test_options_without_effect_are_said(image_folder, capsys):
    tlkit.plan(image_folder, alpha="black", bits=12, **FIELDS)
    text = said(capsys.readouterr().out)
    assert "alpha black: no image has transparent pixels; it changes nothing" in text
    assert "16-bit bits=12: no image has 16 bits; it changes nothing" in text


@pytest.mark.parametrize("setting", ["alpha=grey", "bits=9", "bits=24", "alpha=", "bits=full"])
def test_other_values_are_refused(image_folder, setting):
    result = CliRunner().invoke(main, ["plan", str(image_folder), "--set", setting])
    assert result.exit_code == 2
    assert setting.partition("=")[0] in result.stderr


def test_the_scan_lists_all_of_it(logos, deep):
    result = CliRunner().invoke(main, ["data", "scan", str(logos), "--set", "alpha=black"])
    assert "transparent pixels of 16 images are shown on black" in said(result.stdout)
    assert "16 images are of one colour once decoded" in said(result.stdout)
    result = CliRunner().invoke(main, ["data", "scan", str(deep), "--json"])
    summary = json.loads(result.stdout)
    assert summary["sixteen_bit"]["bits"] == 12
    assert summary["flat"]["count"] == 0


def test_features_of_two_renderings_are_never_mixed_up(logos):
    examples = open_source(logos).parts["train"]
    keys = {
        alpha: {s.variant(e.id) for e in examples}
        for alpha in ("white", "black", "drop")
        for s in [scan(examples, QUIET, rendering=Rendering(alpha))]
    }
    assert not keys["white"] & keys["black"]
    assert not keys["white"] & keys["drop"]
    assert keys["drop"] == set(scan(examples, QUIET).digests.values())


def test_kept_findings_hold_for_one_rendering(logos, monkeypatch, tmp_path):
    from tlkit.data.scan import findings_cache as verdicts
    from tlkit.data.scan import scan as scanning

    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(verdicts, "RACY", 0)
    looked, real = [], scanning.look
    monkeypatch.setattr(scanning, "look", lambda *a: looked.append(1) or real(*a))
    examples = open_source(logos).parts["train"]
    for alpha, flat, fresh in (("white", 0, 16), ("white", 0, 0), ("drop", 16, 16)):
        looked.clear()
        result = scan(examples, QUIET, rendering=Rendering(alpha))
        assert sum(f.flat for f in result.findings.values()) == flat
        assert len(looked) == fresh


def test_darker_files_are_looked_at_again_with_the_range_of_all(deep, tmp_path):
    folder = write_logos(tmp_path / "mixed", top=200)
    (folder / "disc" / "light.png").write_bytes(deep_png(RAMP * 16))
    result = scan(open_source(folder).parts["train"], QUIET, rendering=Rendering(bits=None))
    assert result.rendering.bits == 16
    assert {f.bits for f in result.findings.values()} == {16}
    assert sum(f.flat for f in result.findings.values()) == 16


def test_a_run_of_an_earlier_version_goes_on_decoding_as_it_did(tiny_run, tmp_path):
    import shutil

    import yaml

    old = tmp_path / "old"
    shutil.copytree(tiny_run.folder, old)
    fields = yaml.safe_load((old / "spec.yaml").read_text())
    del fields["alpha"], fields["bits"]
    (old / "spec.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    for name in ("digests.json", "data.json"):
        (old / name).unlink()
    assert tlkit.open_run(old).rendering == Rendering("drop", 16)


@pytest.mark.full
def test_arrays_with_alpha_train_and_predict_as_files_do(logos, tmp_path):
    files = sorted(logos.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    labels = [file.parent.name for file in files]
    run = tlkit.train((images, labels), out=tmp_path / "run", progress=False, **FIELDS)
    by_array, by_file = run.predict(images[:2]), run.predict(files[:2])
    for one, other in zip(by_array, by_file, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_as_pillow_is_on_white():
    assert (as_pillow(LAYERED["PNG RGBA"])[0, 0] == 255).all()
