"""tlkit's input pipeline against bare libjpeg-turbo decoding of the same files.

tlkit's side is what feeds an uncached epoch: read, decode (accurate transform, EXIF orientation),
resize to 224 pixels with antialias, batch; all cores through tf.data. The other side reads each
file and decodes it with libjpeg-turbo in as many threads as there are cores, and throws the pixels
away: by the package simplejpeg (`pip install simplejpeg`, which brings libjpeg-turbo; only this
benchmark uses it), else by Pillow, which is built with libjpeg-turbo too but holds Python up
longer. Both go through the files again and again up to `--images`, in one pass of the pipeline.
The sides alternate; a first round, which reads the files into the system's cache and traces the
graph, is not counted. What the pipeline needs before its first batch stands in a column.

    python benchmarks/input_pipeline.py                          # flowers12, 224 pixels already
    python benchmarks/input_pipeline.py --data path/to/photos --json input.json
    python benchmarks/input_pipeline.py --generate 1600 --images 2000

It prints images a second of both sides for each round, and the ratio of their medians. Time, two
cores: flowers12 half a minute, 2,000 images of 1,600 pixels 6 minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import SHARED, median, parser, report
from images import write_images


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, metavar="FOLDER", help="class folders of JPEG files")
    made.add_argument("--generate", type=int, metavar="SIZE", help="make 400 images of this size")
    made.add_argument("--images", type=int, default=4000, help="decoded at least, in a round")
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--batch-size", type=int, default=32)
    options = made.parse_args()
    if options.data is None:
        options.data = SHARED / "data" / "flowers12"
    if options.smoke:
        options.repeat, options.generate, options.image_size = 1, 64, 32
        options.images = 48
    return options


def decoder() -> tuple[str, Callable[[bytes], object]]:
    """Return the name of the decoder and a function of a JPEG file's bytes."""
    try:
        import simplejpeg

        return f"simplejpeg {simplejpeg.__version__}", simplejpeg.decode_jpeg
    except ImportError:
        import io

        from PIL import Image, features

        def decode(encoded: bytes) -> None:
            with Image.open(io.BytesIO(encoded)) as image:
                image.load()

        return f"Pillow, libjpeg-turbo {features.version('libjpeg_turbo')}", decode


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as name:
        data = options.data
        if options.generate:
            count = 24 if options.smoke else 400
            data = write_images(Path(name) / "data", count, options.generate)
        compare(options, data)


def compare(options: argparse.Namespace, data: Path) -> None:
    import numpy as np

    from tlkit.data.feed.pipeline import batches
    from tlkit.data.readers.open import open_source

    parts = open_source(str(data)).parts.values()
    found = [example for part in parts for example in part]
    found = [e for e in found if e.path.suffix.lower() in (".jpg", ".jpeg")]
    if not found:
        raise SystemExit(f"--data: no JPEG file in class folders below {data}")
    found *= math.ceil(options.images / len(found))
    dataset = batches(found, np.zeros(len(found)), options.image_size, options.batch_size)
    library, decode = decoder()

    def tlkit() -> float:
        start = time.perf_counter()
        pass_ = iter(dataset)
        next(pass_)
        first = time.perf_counter() - start
        for _ in pass_:
            pass
        return first

    with ThreadPoolExecutor(os.cpu_count()) as threads:

        def bare() -> float:
            start = time.perf_counter()
            decoded = threads.map(lambda e: decode(e.path.read_bytes()) is None, found)
            next(decoded)
            first = time.perf_counter() - start
            for _ in decoded:
                pass
            return first

        sides = {"tlkit": tlkit, library: bare}
        for work in sides.values():
            work()
        rows = [
            measured(side, i + 1, work, len(found))
            for i in range(options.repeat)
            for side, work in sides.items()
        ]
    speed = {
        side: median(row["images_a_second"] for row in rows if row["side"] == side)
        for side in sides
    }
    report(options, rows, {f"tlkit / {library}": speed["tlkit"] / speed[library]})


def measured(side: str, number: int, work: Callable[[], float], images: int) -> dict:
    """Run a side once; return its row."""
    start = time.perf_counter()
    first = work()
    speed = images / (time.perf_counter() - start)
    return {"side": side, "round": number, "images_a_second": speed, "seconds_to_first": first}


if __name__ == "__main__":
    main()
