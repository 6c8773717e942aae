"""Mutated images of all formats through the scan and the decoder: none crashes, none is too large.

Each is a generated image (and, where it lies beside the checkout, one of ../shared/data/nasty) with
some bytes changed, taken out, put in or doubled, or numbers of its header set to extremes. It is
looked at as a scan does and decoded in the graph that training and exports share. Of each, held
against each other: nothing raises but what a decoder raises; what the scan takes, the graph takes;
what is above the limits, both refuse. The image at work lies in a file whose path is printed, so
that one that ends the process is at hand.

    python benchmarks/mutated_images.py
    python benchmarks/mutated_images.py --images 30000 --seed 1

It prints how many ended how, the slowest, and the peak memory. Time, two cores: 2 minutes.
"""

from __future__ import annotations

import collections
import faulthandler
import io
import resource
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import ROOT, parser, report
from PIL import Image

NASTY = ROOT.parent / "shared" / "data" / "nasty"
EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**14, 2**15, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**32 - 1)


def originals() -> list[bytes]:
    """Return images of each format and mode, 40 x 24 pixels, then the difficult files."""
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (24, 40, 4), dtype=np.uint8))
    deep = Image.fromarray(random.integers(0, 2**16, (24, 40), dtype=np.uint16))
    tags = Image.Exif()
    tags[0x0112] = 6
    made = [_encoded(deep, "PNG")]
    for form, modes in (
        ("JPEG", ("RGB", "L", "CMYK")),
        ("PNG", ("RGB", "RGBA", "L", "LA", "P", "1")),
        ("GIF", ("P", "L")),
        ("BMP", ("RGB", "RGBA", "L", "P", "1")),
        ("WEBP", ("RGB", "RGBA")),
    ):
        made += [_encoded(noise.convert(mode), form) for mode in modes]
    rgb, frames = noise.convert("RGB"), {"save_all": True, "append_images": [noise.convert("RGB")]}
    made += [_encoded(rgb, form, exif=tags) for form in ("JPEG", "PNG", "WEBP")]
    made += [_encoded(rgb, "JPEG", progressive=True), _encoded(rgb, "WEBP", lossless=True)]
    made += [_encoded(rgb, form, **frames) for form in ("GIF", "PNG", "WEBP")]
    made += [_encoded(noise.convert("P"), form, transparency=3) for form in ("GIF", "PNG")]
    files = sorted(NASTY.iterdir()) if NASTY.is_dir() else []
    return made + [content for file in files if (content := file.read_bytes())]


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Return `content` with 1 to 6 changes, most of them in its header."""
    octets = bytearray(content)
    for _ in range(random.integers(1, 7)):
        reach = len(octets) if random.random() < 0.4 else min(len(octets), 64)
        at, kind = int(random.integers(0, max(1, reach))), random.integers(6)
        if kind == 0:
            octets[at : at + 1] = bytes([random.integers(256)])
        elif kind == 1:
            del octets[at : at + int(random.integers(1, 9))]
        elif kind == 2:
            octets[at:at] = random.integers(0, 256, random.integers(1, 9), np.uint8).tobytes()
        elif kind == 3:
            octets[at:at] = octets[at : at + int(random.integers(1, 200))]
        elif kind == 4 and random.random() < 0.3:
            del octets[max(12, at) :]
        else:
            form = random.choice(["<I", ">I", "<H", ">H"])
            number = int(random.choice(EXTREMES)) % 2 ** (8 * struct.calcsize(form))
            octets[at : at + struct.calcsize(form)] = struct.pack(form, number)
    return bytes(octets)


def main() -> None:
    options = parser(__doc__, repeat=1)
    options.add_argument("--images", type=int, default=3000)
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    faulthandler.enable()
    import tensorflow as tf

    from tlkit.data.example import Example
    from tlkit.data.pictures.decode import UNDECODABLE, decode
    from tlkit.data.pictures.gif_bmp_webp import MAX_PIXELS
    from tlkit.data.pictures.header import read_header
    from tlkit.data.scan.inspect import look

    count = 200 if options.smoke else options.images
    graph = tf.function(decode, [tf.TensorSpec((), tf.string)], autograph=False)
    graph(tf.constant(originals()[0]))
    ends, slowest = collections.Counter(), (0.0, -1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random, known = np.random.default_rng(options.seed), originals()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated"
        print(f"at work: {path}", flush=True)
        for number in range(count):
            content = mutated(known[number % len(known)], random)
            path.write_bytes(content)
            start = time.perf_counter()
            finding, header = look(Example("a", "a", path), near=True), read_header(content)
            try:
                pixels = graph(tf.constant(content)).shape
            except UNDECODABLE:
                pixels = None
            slowest = max(slowest, (time.perf_counter() - start, number))
            end = (finding.problem or "taken").partition(":")[0].partition(" (")[0]
            ends[end if header.format else "no image"] += 1
            large = (finding.problem or "").startswith(("too large", "too many"))
            assert not (large and pixels), f"{number}: {finding.problem}, but decoded to {pixels}"
            assert bool(finding.problem) or pixels, f"{number}: taken, but not by the graph"
            assert pixels is None or pixels[0] * pixels[1] <= MAX_PIXELS, f"{number}: {pixels}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = [{"end": end, "images": found} for end, found in ends.most_common()]
    others = {
        "slowest, s": slowest[0],
        "number of the slowest": slowest[1],
        "peak memory, MiB": peak / 1024,
        "of it for the mutants, MiB": (peak - before) / 1024,
    }
    report(options, rows, {}, others)


if __name__ == "__main__":
    main()
