"""An epoch of fine-tuning from cached features against the same epoch computed from the images.

Two runs of `tlkit train` alternate, processes of their own with the same data, seed, backbone and
freeze rule (MobileNetV2 frozen up to block_12): one keeps the features at the cut, the other may
keep none (`--set cache_size=0`) and runs each image through the frozen part in every epoch. What
is compared is the time of an epoch in `log.csv`, training and validation, the first epoch of a run
left out because the graph is traced in it.

    python benchmarks/cached_epoch.py --data ../shared/data/flowers5 --json cached.json
    python benchmarks/cached_epoch.py --tlkit "--engine keras"      # the same engine on both sides

It prints seconds and images a second of both for each round, and the ratio of the medians. Time,
two cores: flowers5 with 3 rounds of 3 epochs about 12 minutes; `--repeat 1` about 4.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import tempfile
from pathlib import Path

from figures import ROOT, SHARED, median, parser, report, run_python
from images import write_images

KEPT = {"cached": (), "streamed": ("--set", "cache_size=0")}


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=SHARED / "data" / "flowers5", metavar="FOLDER")
    made.add_argument("--backbone", default="MobileNetV2")
    made.add_argument("--cut", default="block_12", help="the last frozen block")
    made.add_argument("--epochs", type=int, default=3, help="of a run; the first is not counted")
    made.add_argument("--tlkit", default="", help="more options of tlkit train, for both sides")
    options = made.parse_args()
    if options.epochs < 2:
        made.error("--epochs: the first is not counted, so at least 2 are needed")
    if options.smoke:
        options.repeat, options.epochs = 1, 2
        options.backbone, options.cut = "MobileNet", "block_10"
        options.tlkit = "--image-size 32 --set backbone.alpha=0.25 --set backbone.weights=none"
    return options


def epoch_of(options: argparse.Namespace, data: Path, kept: tuple[str, ...], out: Path) -> dict:
    """Run `tlkit train`; return the median of its epochs."""
    run_python(
        *(ROOT / "cli.py", "train", data, "--backbone", options.backbone, "--out", out, "--json"),
        *("--freeze", f"until={options.cut}", "--epochs", options.epochs, *kept),
        *("--set", "optimizer.patience=0", "--set", "augment=none", "--test", 0),
        *shlex.split(options.tlkit),
        TLKIT_CACHE=out.with_suffix(".cache"),
    )
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    with (out / "log.csv").open(newline="", encoding="utf-8") as file:
        log = [row for row in csv.DictReader(file) if row["phase"] == metrics["phases"][-1]["name"]]
    seconds = median(float(row["seconds"]) for row in log[1:])
    images = metrics["examples"]["train"] + metrics["examples"]["val"]
    return {
        "images": images,
        "seconds_an_epoch": seconds,
        "images_a_second": images / seconds,
        "kept": metrics["phases"][-1]["features_kept"],
    }


def main() -> None:
    options = read_options()
    rows = []
    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as name:
        work = Path(name)
        data = write_images(work / "data", 60, 40) if options.smoke else options.data
        for i in range(options.repeat):
            for side, kept in KEPT.items():
                row = epoch_of(options, data, kept, work / f"{side}-{i}")
                if row["kept"] != (side == "cached"):
                    raise SystemExit(f"{side}: features kept: {row['kept']}; nothing to compare")
                rows.append({"side": side, "round": i + 1, **row})
    seconds = {
        side: median(row["seconds_an_epoch"] for row in rows if row["side"] == side)
        for side in KEPT
    }
    report(options, rows, {"streamed / cached epoch": seconds["streamed"] / seconds["cached"]})


if __name__ == "__main__":
    main()
