"""How long a person waits until a wrong word is said: seconds of a whole process, each three times.

    python benchmarks/first_word.py

Prints a line for each kind of mistake; nothing is trained or imported beyond the command line.
Takes about 30 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

WRONG = {
    "path": ["nowhere"],
    "device": [".", "--device", "tpu"],
    "out": [".", "--out", "/dev/null/x"],
    "backbone": [".", "--backbone", "MobilNet"],
    "freeze": [".", "--freeze", "until=blok_12"],
    "init": [".", "--init", "nowhere"],
}


def seconds(arguments: list[str]) -> float:
    """Return the shortest of three whole processes."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            start = time.perf_counter()
            command = [sys.executable, "-m", "tlkit", "train", *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True)
            taken.append(time.perf_counter() - start)
            if done.returncode != 2:
                raise SystemExit(f"{arguments}: was not refused: {done.stderr.decode()}")
    return min(taken)


def main() -> None:
    """Print all of them."""
    shape = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=shape).parse_args()
    for name, arguments in WRONG.items():
        print(f"{name:<10}{seconds(arguments):.2f} s")


if __name__ == "__main__":
    main()
