"""Peak anonymous memory of `tlkit data prepare` and of training, for few and for many pictures.

    python benchmarks/memory.py                  # 5,000 against 50,000 pictures; some minutes
    python benchmarks/memory.py --few 500 --many 5000

Pictures of 32 pixels are generated, prepared, and trained on in two ways: features of the frozen
network (MobileNet 0.25, random weights), kept on disk, with a head solved on them; and the whole
network, streamed, for one epoch. Each step is the real command in a process of its own, whose
RssAnon (/proc/PID/status: memory that no file backs) is read 20 times a second.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 5
TINY = "backbone={name: MobileNet, weights: none, alpha: 0.25}"
STEPS = {
    "prepare": ["data", "prepare", "pictures", "prepared"],
    "solved": ["train", "prepared", "--regime", "small", "--out", "solved"],
    "streamed": ["train", "prepared", "--freeze", "none", "--epochs", "1", "--out", "streamed"],
}


def generate(folder: Path, count: int) -> None:
    """Write `count` pictures, in class folders: noise around a colour for each class."""
    random = np.random.default_rng(0)
    colours = random.integers(60, 196, (CLASSES, 3))
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for i in range(count):
        noise = random.integers(-60, 60, (32, 32, 3))
        pixels = (colours[i % CLASSES] + noise).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class{i % CLASSES}" / f"{i:06d}.png")


def peak_of(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run a tlkit command in `folder`; return its peak RssAnon in MiB and its seconds."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    env = {**os.environ, "TLKIT_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    start, peak = time.monotonic(), 0
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            found = re.search(r"RssAnon:\s+(\d+) kB", status)
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.05)
    if process.wait():
        raise SystemExit((folder / "output").read_text())
    return peak / 1024, time.monotonic() - start


def measure(count: int) -> dict[str, tuple[float, float]]:
    """Return peak and seconds of each step for `count` pictures."""
    with tempfile.TemporaryDirectory(prefix="tlkit-memory-") as name:
        folder, found = Path(name), {}
        generate(folder / "pictures", count)
        for step, arguments in STEPS.items():
            options = ["--image-size", "32", "--set", TINY] if arguments[0] == "train" else []
            found[step] = peak_of([*arguments, *options], folder)
            print(f"{step:<10}{count:>8,}: {found[step][0]:7.0f} MiB, {found[step][1]:.0f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=5_000)
    parser.add_argument("--many", type=int, default=50_000)
    options = parser.parse_args()
    few, many = measure(options.few), measure(options.many)
    for step in STEPS:
        print(f"{step:<10}ratio   : {many[step][0] / few[step][0]:.3f}")


if __name__ == "__main__":
    main()
