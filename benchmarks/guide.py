"""Whole runs of `tlkit train` against the recipe of Keras's transfer-learning guide.

Each run is a process of its own, timed from its start to its end: imports, reading, training,
testing. Both sides get the same files: tlkit splits the data by the seed, and its split is handed
to the guide as folders of links. For each seed tlkit runs with an empty feature cache (cold), then
again with the one just filled (warm), and after it, for the first `--guide-runs` seeds, the guide
(keras_guide.py says what is taken from it) on the same split.

    python benchmarks/guide.py --data flowers5 --regime small medium --json guide-flowers5.json
    python benchmarks/guide.py --data flowers12 --guide-runs 3
    python benchmarks/guide.py --data path/to/folder --regime small --tlkit "--engine openvino"

`small` is held against the guide's frozen stage (10 epochs), `medium` against both of its stages
(10 + 10); one run of the guide with both stages gives both, since the end of its first stage, test
included, is timed, and its first test is taken off the two-stage time. It prints a row for each
process (seconds; accuracy on the test part); as ratios the guide's seconds by tlkit's, cold and
warm (medians over seeds and `--repeat`, which is 1 by default because the seeds already repeat the
run); and tlkit's mean accuracy less the guide's, in points.

Time, two cores without GPU: flowers5 (3,023 images to train on), both regimes, one guide run: 35
to 45 minutes, of which the guide takes about 25; `--regime small` alone: 12. flowers12 (612), both:
12 minutes. Data by name and weights are looked for in `../shared`; any folder of class folders can
be given instead, and `--weights imagenet` is downloaded by Keras where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import tempfile
import time
from pathlib import Path

from figures import ROOT, SHARED, median, parser, report, run_python
from images import write_images
from keras_guide import BASES

PARTS = {"train": "train", "val": "validation", "test": "test"}
REGIMES = ("small", "medium")


def read_options() -> argparse.Namespace:
    made = parser(__doc__, repeat=1)
    made.add_argument("--data", default="flowers5", help="flowers5, flowers12 or a folder")
    made.add_argument("--regime", nargs="+", choices=REGIMES, default=["small"])
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--guide-runs", type=int, default=1, help="seeds that the guide runs too")
    made.add_argument(
        "--batchnorm",
        choices=("held", "as-is"),
        default="held",
        help="the guide's fine-tuning: BatchNorm really held, or as the guide's code leaves it",
    )
    made.add_argument("--augment", action="store_true", help="the guide's flip and rotation")
    made.add_argument("--backbone", choices=BASES, default=BASES[0])
    made.add_argument("--alpha", type=float, help="width multiplier of the MobileNets")
    made.add_argument("--weights", choices=("imagenet", "none"), default="imagenet")
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--epochs", type=int, default=10, help="of the guide, in each stage")
    made.add_argument("--tlkit", default="", help='more options of tlkit train: "--engine keras"')
    options = made.parse_args()
    if options.smoke:
        options.seeds, options.repeat, options.epochs = [0], 1, 1
        options.backbone, options.alpha = "MobileNet", 0.25
        options.weights, options.image_size = "none", 32
    return options


def find_data(options: argparse.Namespace, work: Path) -> Path:
    if options.smoke:
        return write_images(work / "data", 30, 40)
    known = SHARED / "data" / options.data
    return known if known.is_dir() else Path(options.data).resolve()


def run_tlkit(
    options: argparse.Namespace, data: Path, regime: str, seed: int, cache: Path, out: Path
) -> dict:
    """Run `tlkit train`; return its row."""
    settings = [f"backbone.weights={options.weights}"]
    if options.alpha is not None:
        settings.append(f"backbone.alpha={options.alpha}")
    done = run_python(
        *(ROOT / "cli.py", "train", data, "--backbone", options.backbone, "--out", out),
        *("--regime", regime, "--seed", seed, "--image-size", options.image_size, "--json"),
        *(word for setting in settings for word in ("--set", setting)),
        *shlex.split(options.tlkit),
        TLKIT_CACHE=cache,
    )
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return {"seconds": done.seconds, "accuracy": metrics["test"]["accuracy"]}


def link_parts(data: Path, run: Path, folder: Path) -> Path:
    """Make the split of a run into folders of links, which is what the guide reads."""
    splits = json.loads((run / "scan.json").read_text(encoding="utf-8"))["splits"]
    classes = {Path(id_).parent.name for ids in splits.values() for id_ in ids}
    for part, name in PARTS.items():
        for label in classes:  # all in each part: the guide counts classes by folders
            (folder / name / label).mkdir(parents=True)
        for id_ in splits[part]:
            (folder / name / Path(id_).parent.name / Path(id_).name).symlink_to(data / id_)
    return folder


def run_guide(options: argparse.Namespace, folder: Path, seed: int) -> dict[str, dict]:
    """Run the guide; return a row for each regime that it is held against."""
    both = "medium" in options.regime
    alpha = () if options.alpha is None else ("--alpha", options.alpha)
    done = run_python(
        *(ROOT / "benchmarks" / "keras_guide.py", folder, "--seed", seed, *alpha),
        *("--backbone", options.backbone, "--weights", options.weights),
        *("--image-size", options.image_size, "--batchnorm", options.batchnorm),
        *("--epochs", options.epochs, "--finetune-epochs", options.epochs if both else 0),
        *(("--augment",) if options.augment else ()),
        *("--started", time.monotonic()),
    )
    said = json.loads(done.output.splitlines()[-1])
    accuracy, seconds = said["accuracy"], said["seconds"]
    first = seconds["to_frozen_tested"] if both else done.seconds
    rows = {"small": {"seconds": first, "accuracy": accuracy["frozen"]}}
    if both:
        whole = done.seconds - seconds["frozen_test"]
        rows["medium"] = {"seconds": whole, "accuracy": accuracy["finetuned"]}
    return {regime: rows[regime] for regime in options.regime}


def summarise(rows: list[dict], regime: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return the ratios of a regime, and its accuracies."""

    def of(side: str, seeds: set[int] | None = None) -> list[dict]:
        mine = [row for row in rows if (row["regime"], row["side"]) == (regime, side)]
        return [row for row in mine if seeds is None or row["seed"] in seeds]

    def points(side: str, seeds: set[int] | None = None) -> float:
        return 100 * statistics.mean(row["accuracy"] for row in of(side, seeds))

    guide = median(row["seconds"] for row in of("guide"))
    ratios = {
        f"{regime}, guide / tlkit {side}": guide / median(row["seconds"] for row in of(side))
        for side in ("cold", "warm")
    }
    same = {row["seed"] for row in of("guide")}
    accuracies = {
        "tlkit, mean accuracy in %": points("cold"),
        "guide, mean accuracy in %": points("guide"),
        "tlkit less guide, points": points("cold") - points("guide"),
        "the same over the seeds that both ran": points("cold", same) - points("guide"),
    }
    return ratios, {f"{regime}, {name}": value for name, value in accuracies.items()}


def main() -> None:
    options = read_options()
    rows: list[dict] = []

    def add(regime: str, side: str, seed: int, row: dict) -> None:
        rows.append({"regime": regime, "side": side, "seed": seed, **row})
        print(f"{regime} {side} seed {seed}: {row['seconds']:.1f} s", flush=True)

    with tempfile.TemporaryDirectory(prefix="tlkit-benchmark-") as name:
        work = Path(name)
        data = find_data(options, work)
        if not data.is_dir():
            raise SystemExit(f"--data: no such folder. Received: {options.data}")
        for number, seed in enumerate(options.seeds):
            for regime in options.regime:
                for i in range(options.repeat):
                    place = work / f"{regime}-{seed}-{i}"
                    for side in ("cold", "warm"):
                        row = run_tlkit(options, data, regime, seed, place / "cache", place / side)
                        add(regime, side, seed, row)
            if number < max(1, options.guide_runs):
                split = work / f"{options.regime[0]}-{seed}-0" / "cold"
                folder = link_parts(data, split, work / f"parts-{seed}")
                for regime, row in run_guide(options, folder, seed).items():
                    add(regime, "guide", seed, row)
    print(f"data {os.path.basename(data)}, {options.backbone}, {options.image_size} px")
    ratios, accuracies = {}, {}
    for regime in options.regime:
        more, compared = summarise(rows, regime)
        ratios |= more
        accuracies |= compared
    report(options, rows, ratios, accuracies)


if __name__ == "__main__":
    main()
