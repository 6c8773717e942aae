"""Peak anonymous memory of `tlkit data prepare` and of training on what it made, at 1x and 10x.

Images of 32 pixels are generated, prepared, and trained on in two ways: features of the frozen
network (MobileNet 0.25, random weights), kept on disk, with a head solved on them; and the whole
network, streamed, for one epoch. Each step is a process of its own; its memory is sampled from
/proc (rss.py: RssAnon), Linux only.

    python benchmarks/prepared_memory.py                   # 5,000 against 50,000 images
    python benchmarks/prepared_memory.py --images 1000

It prints the peak and the seconds of each step, and for each step the peak at 10x by that at 1x;
medians of `--repeat`, by default 1. Time, two cores: 7 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from figures import ROOT, median, parser, report
from images import write_images
from rss import peak_of

FACTORS = (1, 10)
NETWORK = [
    *("--image-size", "32"),
    *("--set", "backbone={name: MobileNet, weights: none, alpha: 0.25}"),
]
STEPS = {
    "prepare": ["data", "prepare", "{}/images", "{}/prepared"],
    "solved": ["train", "{}/prepared", "--regime", "small", "--out", "{}/solved", *NETWORK],
    "streamed": [
        *("train", "{}/prepared", "--freeze", "none", "--epochs", "1", "--out", "{}/streamed"),
        *NETWORK,
    ],
}


def read_options() -> argparse.Namespace:
    made = parser(__doc__, repeat=1)
    made.add_argument("--images", type=int, default=5_000, help="at 1x")
    options = made.parse_args()
    if options.smoke:
        options.repeat, options.images = 1, 30
    return options


def main() -> None:
    options = read_options()
    if not Path("/proc/self/status").exists():
        raise SystemExit("prepared_memory: needs /proc, so Linux")
    rows = []
    for factor in FACTORS:
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as place:
                write_images(Path(place) / "images", factor * options.images, 32)
                for step, arguments in STEPS.items():
                    command = [sys.executable, str(ROOT / "cli.py")]
                    command += [argument.replace("{}", place) for argument in arguments]
                    env = {**os.environ, "TLKIT_CACHE": f"{place}/cache"}
                    peak, seconds = peak_of(command, env)
                    row = {"step": step, "images": factor * options.images}
                    rows.append({**row, "peak_mib": peak / 2**20, "seconds": seconds})
                    print(f"{step}, {row['images']} images: {peak / 2**20:.0f} MiB", flush=True)

    def peak_at(step: str, factor: int) -> float:
        count = factor * options.images
        return median(r["peak_mib"] for r in rows if (r["step"], r["images"]) == (step, count))

    ratios = {f"{step}, peak at 10x / 1x": peak_at(step, 10) / peak_at(step, 1) for step in STEPS}
    report(options, rows, ratios)


if __name__ == "__main__":
    main()
