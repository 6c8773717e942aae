"""What the benchmarks have in common: their options, the table they print, the JSON beside it.

Importing this first makes `import tlkit` mean the checkout that the script lies in, whatever is
installed, and lets Keras find the weights in `../shared` if `KERAS_HOME` is not set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
PACKAGES = ("tlkit", "keras", "tensorflow", "jax", "openvino", "onnxruntime", "numpy")

sys.path.insert(0, str(ROOT))
if (SHARED / "keras_home").is_dir():
    os.environ.setdefault("KERAS_HOME", str(SHARED / "keras_home"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def parser(description: str, repeat: int = 3) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark; `description` is its docstring."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--repeat", type=int, default=repeat, help=f"rounds (default {repeat})")
    made.add_argument("--json", type=Path, metavar="FILE", help="write what was measured here too")
    made.add_argument(
        "--smoke", action="store_true", help="tiny data and one round: does it run at all?"
    )
    return made


def report(
    options: argparse.Namespace,
    rows: Sequence[dict[str, Any]],
    ratios: dict[str, float],
    others: dict[str, float] | None = None,
) -> None:
    """Print a table of `rows`, a line for each ratio and other figure; write all to `--json`."""
    others = others or {}
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_shown(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    for name, value in ratios.items():
        print(f"ratio   {name}: {value:.3g}")
    for name, value in others.items():
        print(f"figure  {name}: {value:.4g}")
    if options.json:
        found = {
            "benchmark": Path(sys.argv[0]).stem,
            "options": {key: _plain(value) for key, value in vars(options).items()},
            "machine": machine(),
            "rows": list(rows),
            "ratios": ratios,
            "figures": others,
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:.1f}"
    return str(value)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def machine() -> dict[str, Any]:
    """Return what the figures were measured on: processor, cores, versions."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((li.partition(": ")[2] for li in lines if li.startswith("model name")), name)
    from tlkit.runfolder.environment import versions_of  # with TensorFlow, once all is measured

    return {"processor": name, "cores": os.cpu_count(), "versions": versions_of(PACKAGES)}


def median(values: Iterable[float]) -> float:
    """Return the median of some measurements."""
    return statistics.median(list(values))


def rate(work: Any, images: int) -> float:
    """Call `work` and return images per second."""
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


@dataclass(frozen=True)
class Finished:
    """A process that came to its end: seconds from its start to its end, and what it printed."""

    seconds: float
    output: str


def run_python(*arguments: Any, **env: Any) -> Finished:
    """Run Python as a process of its own; a failure of it ends the benchmark with its message."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **{name: str(value) for name, value in env.items()}},
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: failed\n{done.stderr[-3000:]}")
    return Finished(seconds, done.stdout)
