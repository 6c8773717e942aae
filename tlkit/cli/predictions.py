"""How predictions are shown in a table and written as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

from tlkit.atomic import write_file
from tlkit.errors import DataError
from tlkit.progress import Progress


def show_predictions(results: list[dict[str, Any]], top: int, progress: Progress) -> None:
    """Print a row for each image, with `top` labels."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column("image", overflow="fold", ratio=3), "label", "score", Column("next", ratio=2)
    )
    for row in results:
        if row["error"]:
            table.add_row(Text(row["path"]), Text("-"), "", Text(row["error"]))
            continue
        table.add_row(Text(row["path"]), *map(Text, _columns(row, top)))
    progress.console.print(table)
    bad = sum(row["error"] is not None for row in results)
    if bad:
        progress.say("left out", f"{bad} of {len(results)} files could not be used")


def _columns(row: dict[str, Any], top: int) -> tuple[str, str, str]:
    """Return what stands in the table's columns `label`, `score` and `next`."""
    if "detections" in row:
        counts = Counter(own["label"] for own in row["detections"])
        best = max((own["score"] for own in row["detections"]), default=None)
        named = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return named or "nothing found", "" if best is None else f"{best:.3f}", ""
    if "label" not in row:  # numbers by name
        numbers = [own for own in row.values() if isinstance(own, dict)]
        return ", ".join(f"{n} {x:.4g}" for own in numbers for n, x in own.items()), "", ""
    ranked = sorted(row["probabilities"].items(), key=lambda item: -item[1])
    given = row.get("labels", [row["label"]])
    others = [f"{name} {p:.3f}" for name, p in ranked if name not in given]
    score = "" if "labels" in row else f"{row['score']:.3f}"
    if "set" in row:
        return row["label"], score, f"set: {', '.join(row['set'])}"
    if "box" in row:
        others = ["box " + " ".join(f"{x:.0f}" for x in row["box"]), *others]
        top += 1
    return ", ".join(given) or "none", score, ", ".join(others[: top - 1])


def write_csv(results: list[dict[str, Any]], path: Path) -> None:
    """Write a row for each image; where objects are found one for each of these, and for an image
    without any.

    Raises:
        DataError: it cannot be written.
    """
    from tlkit.data.csv_cells import csv_cell

    named = {key for row in results for key, own in row.items() if isinstance(own, dict)}
    results = [own for row in results for own in _each(row)]
    rows = [_flat(row, named | {"probabilities", "values"}) for row in results]
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*columns, "error"], restval="")
    writer.writerow({name: csv_cell(name) for name in (*columns, "error")})
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    try:
        write_file(path, text.getvalue().encode("utf-8"))
    except OSError as error:
        raise DataError(f"--csv {path}: cannot be written: {error.strerror}") from error


def _each(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a prediction once for each object found in its image."""
    if "detections" not in row:
        return [row]
    rest = {name: x for name, x in row.items() if name != "detections"}
    objects = row["detections"] or [dict.fromkeys(("label", "score", "box"))]
    return [{"path": rest["path"], **own, **rest} for own in objects]


def _flat(row: dict[str, Any], named: set[str]) -> dict[str, Any]:
    """Return a prediction with a column for each probability or number, those of `named`."""
    from tlkit.data.box_targets import CORNERS

    flat = {name: x for name, x in row.items() if name not in named}
    if "box" in flat:
        box = flat.pop("box") or [None] * 4
        flat |= dict(zip(CORNERS, box, strict=True))
    for key in ("labels", "set"):
        if flat.get(key) is not None:
            flat[key] = "|".join(flat[key])
    before = {"probabilities": "p_", "values": ""}
    for key in [key for key in row if key in named]:
        flat |= {f"{before.get(key, f'{key}_')}{name}": x for name, x in (row[key] or {}).items()}
    return flat
