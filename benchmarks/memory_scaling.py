"""Peak anonymous memory of `tlkit train` at 1x, 4x and 16x the data.

Each run is a process of its own with an empty feature cache, on generated images, no two alike;
its memory and its children's is sampled from /proc (rss.py: RssAnon, so that pages mapped from the
feature cache do not count), Linux only. In the medium regime all runs make the same number of
epochs, by default 2.

    python benchmarks/memory_scaling.py --json memory.json
    python benchmarks/memory_scaling.py --images 2000 --regime small

It prints the peak and the seconds of each run, and for each regime the peaks at 4x and 16x by that
at 1x; medians of `--repeat`, by default 1, since peaks vary by a few per cent only. Time, two
cores, 1x = 500 images: small 5 minutes, medium 10.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from figures import ROOT, median, parser, report
from images import write_images
from rss import peak_of

REGIMES = ("small", "medium")


def read_options() -> argparse.Namespace:
    made = parser(__doc__, repeat=1)
    made.add_argument("--images", type=int, default=500, help="at 1x")
    made.add_argument("--factors", nargs="+", type=int, default=[1, 4, 16])
    made.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES))
    made.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    made.add_argument("--side", type=int, default=96, help="of the generated images, in pixels")
    made.add_argument("--tlkit", default="", help="more options of tlkit train")
    options = made.parse_args()
    if options.factors[0] != 1:
        made.error("--factors: the first has to be 1, what the others are compared with")
    if options.smoke:
        options.repeat, options.images, options.factors = 1, 24, [1, 4]
        options.regime, options.side = ["small"], 32
        options.tlkit = "--backbone MobileNet --image-size 32 --set backbone.alpha=0.25"
        options.tlkit += " --set backbone.weights=none"
    return options


def measure(
    options: argparse.Namespace, data: Path, regime: str, place: Path
) -> tuple[float, float]:
    """Run `tlkit train`; return the peak in MiB and the seconds."""
    epochs = ("--epochs", str(options.epochs)) if regime == "medium" else ()
    command = [
        *(sys.executable, str(ROOT / "cli.py"), "train", str(data), "--regime", regime, *epochs),
        *("--out", str(place / "run"), *shlex.split(options.tlkit)),
    ]
    peak, seconds = peak_of(command, {**os.environ, "TLKIT_CACHE": str(place / "cache")})
    return peak / 2**20, seconds


def main() -> None:
    options = read_options()
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory_scaling: needs /proc, so Linux")
    rows = []
    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as name:
        work = Path(name)
        for factor in options.factors:
            count = factor * options.images
            data = write_images(work / f"data-{factor}", count, options.side)
            for regime in options.regime:
                for i in range(options.repeat):
                    place = work / f"{regime}-{factor}-{i}"
                    peak, seconds = measure(options, data, regime, place)
                    row = {"regime": regime, "factor": factor, "images": count}
                    rows.append({**row, "peak_mib": peak, "seconds": seconds})
                    print(f"{regime}, {count} images: {peak:.0f} MiB", flush=True)

    def peak_at(regime: str, factor: int) -> float:
        own = [row for row in rows if (row["regime"], row["factor"]) == (regime, factor)]
        return median(row["peak_mib"] for row in own)

    ratios = {
        f"{regime}, peak at {factor}x / 1x": peak_at(regime, factor) / peak_at(regime, 1)
        for regime in options.regime
        for factor in options.factors[1:]
    }
    report(options, rows, ratios)


if __name__ == "__main__":
    main()
