"""Write the tables of benchmarks/results.json into README.md and docs/, between marks.

A mark is `<!-- table: NAME -->`.

python docs/tables.py            # after results.json was edited
python docs/tables.py --check    # exits with 1 where a page shows other figures
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n<!-- /table -->)", re.S)


def accuracy(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of test accuracies: the mean, and each seed in brackets."""
    table, before = [["data", "backbone", "regime", "test accuracy"]], ""
    for row in rows:
        seeds = ", ".join(f"{seed:.1f}" for seed in row["seeds"])
        data = "the same" if row["data"] == before else row["data"]
        value = f"{mean(row['seeds']):.1f}% ({seeds})"
        table.append([data, row["backbone"], row["regime"], value])
        before = row["data"]
    return table


def speed(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of times: of the guide, with an empty cache and with features kept."""
    head = ["data, regime", "guide", "empty cache", "features kept"]
    table = [[*head, "test accuracy less the guide's"]]
    for row in rows:
        guide, *own = row["seconds"]
        cells = [f"{seconds:,g} s, {guide / seconds:.1f}x" for seconds in own]
        table.append([row["data"], f"{row['guide']}, {guide:,} s", *cells, row["accuracy"]])
    return table


def boxes(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of localisation: accuracy and mean IoU, and that of moved copies."""
    head = ["data", "backbone", "regime", "class accuracy", "mean IoU", "on moved copies"]
    shown = ("accuracy", "mean_iou", "moved_mean_iou")
    cells = [[_seeds(row[name]) for name in shown] for row in rows]
    own = [[row["data"], row["backbone"], row["regime"]] for row in rows]
    return [head, *(a + b for a, b in zip(own, cells, strict=True))]


def detection(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of detection: average precisions, and the time of a whole run."""
    head = ["data", "backbone", "`detector.kind`, regime", "AP50", "AP", "AP75", "seconds"]
    own = [[row["data"], row["backbone"], row["what"]] for row in rows]
    cells = [[_seeds(row[name]) for name in ("ap50", "ap", "ap75")] for row in rows]
    ends = [[f"{min(row['seconds'])} to {max(row['seconds'])}"] for row in rows]
    return [head, *(a + b + c for a, b, c in zip(own, cells, ends, strict=True))]


def _seeds(values: list[float]) -> str:
    return f"{mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def calibration(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of temperatures: each seed's, with what it changed."""
    table = [["data, regime", "temperature", "test NLL", "calibration error"]]
    for row in rows:
        temperatures = ", ".join(f"{t:.3g}" for t in row["temperatures"])
        pairs = (
            ", ".join(
                f"{before:.3f} → {after:.3f}" if temperature != 1 else f"{before:.3f}"
                for temperature, (before, after) in zip(row["temperatures"], row[key], strict=True)
            )
            for key in ("nll", "ece")
        )
        table.append([row["data"], temperatures, *pairs])
    return table


TABLES: dict[str, Callable[[list[dict[str, Any]]], list[list[str]]]] = {
    "accuracy": accuracy,
    "speed": speed,
    "boxes": boxes,
    "detection": detection,
    "calibration": calibration,
}


def written(page: str, results: dict[str, Any]) -> str:
    """Return the text of a page with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        head, *rows = TABLES[match[2]](results[match[2]]["rows"])
        lines = [head, ["---"] * len(head), *rows]
        return match[1] + "\n".join(f"| {' | '.join(line)} |" for line in lines) + match[3]

    return MARK.sub(table, page)


def main() -> int:
    """Write the pages, or tell whether one differs."""
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8"))
    differ = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if (new := written(text, results)) != text:
            differ.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(new, "utf-8")
    print(f"{'differ' if '--check' in sys.argv else 'written'}: {', '.join(differ) or 'none'}")
    return int(bool(differ) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
