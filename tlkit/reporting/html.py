"""`report.html`: one file with all that a person wants to see of a run; no script, no request."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tlkit.data.example import Example
from tlkit.data.pictures.rendering import Rendering
from tlkit.data.scan.thumbnail import thumbnail
from tlkit.errors import printable
from tlkit.reporting.curves import phase_curves
from tlkit.reporting.page import template, words
from tlkit.reporting.svg import Axis, Line, plot
from tlkit.runfolder.folder import RunFolder
from tlkit.tasks.shown import Confusion, Gallery, Reliability, Scatter, Shown, Tile

SIDE = 112
"""Longest side of an image in pixels; 3 to 5 kB each."""

QUALITY = 72
"""Of their JPEG, 1 to 95 (Pillow's scale)."""

IMAGES_IN_ALL = 360
IMAGE_BYTES = 3_500_000
"""Images in a report, and characters that they may take: the file stays below 5 MB."""

ROWS = 1000
"""Rows of a table."""

SCATTERED = 1000
"""Points of a scatter."""


@dataclass
class Images:
    """The images of a run, made small and embedded as they are asked for.

    Attributes:
        examples: by id, those that can still be found.
        digests: content hash that each had when the run saw it.
        rendering: how they are shown.
        gone: ids of images that cannot be shown, as they are gone or have changed.
        maps: from ids to their images with maps laid over them, of those in galleries; None: no
            maps are shown.
        left_out: how many there was no room for.
    """

    examples: Mapping[str, Example]
    digests: Mapping[str, str]
    rendering: Rendering
    maps: Callable[[Sequence[str]], dict[str, Image.Image]] | None = None
    gone: set[str] = field(default_factory=set)
    left_out: int = 0
    _made: dict[str, str] = field(default_factory=dict)
    _used: int = 0

    def small(self, id_: str) -> Image.Image | None:
        """Return an image, small; None: it is gone or has changed."""
        example = self.examples.get(id_)
        digest = self.digests.get(id_, "")
        return thumbnail(example, self.rendering, SIDE, digest) if example else None

    def uri(self, id_: str) -> str:
        """Return an image as a data URI; "" if it cannot be shown."""
        if id_ not in self._made and id_ not in self.gone:
            if len(self._made) >= IMAGES_IN_ALL:
                self.left_out += 1
                return ""
            made = self.small(id_)
            if made is None:
                self.gone.add(id_)
            else:
                self._made[id_] = as_uri(made)
        uri = self._made.get(id_, "")
        if self._used + len(uri) > IMAGE_BYTES:
            self.left_out += 1
            return ""
        self._used += len(uri)
        return uri


def as_uri(image: Image.Image) -> str:
    """Return an image as a data URI of a JPEG."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def render(folder: RunFolder, facts: Mapping[str, Any], images: Images) -> str:
    """Return the report's HTML.

    Args:
        facts: `metrics`, `plan`, `scan`, `environment` (the JSON files of the run), `log` (rows of
            log.csv), `figures` and `parts` (of its task), `audit` (parts), and `notes`.
    """
    audit = [_part(part, images) for part in facts["audit"]]
    # Galleries first: the cells of a large matrix could take all the room there is for images.
    parts: list[Shown] = facts["parts"]
    order = sorted(range(len(parts)), key=lambda i: isinstance(parts[i], Confusion))
    made = {i: _part(parts[i], images) for i in order}
    return template("report.jinja").render(
        name=printable(folder.path.name),
        folder=printable(str(folder.path)),
        metrics=facts["metrics"],
        plan=facts["plan"],
        scan={"notes": [], "left_out": [], "source": "", **facts["scan"]},
        environment=_flat(facts["environment"]),
        figures=facts["figures"],
        parts=[made[i] for i in range(len(parts))],
        audit=audit,
        notes=[*facts["notes"], *_image_notes(images)],
        phases=phase_curves(facts["log"], facts["plan"], facts["metrics"]),
        commands=_commands(folder, facts["metrics"]),
        data_rows=_data_rows(facts["scan"]),
        class_rows=_class_rows(facts["scan"]),
    )


def _part(part: Shown, images: Images) -> dict[str, Any]:
    """Return what the template writes of a part: its fields, images and drawings made."""
    shown: dict[str, Any] = {"kind": part.kind, "title": part.title, "note": part.note}
    if isinstance(part, Gallery):
        tiles = _tiles(part.tiles, images)
        if images.maps:
            made = images.maps([tile.id for tile in part.tiles])
            for tile, own in zip(part.tiles, tiles, strict=True):
                own["map"] = as_uri(made[tile.id]) if tile.id in made else ""
        return {**shown, "tiles": tiles}
    if isinstance(part, Confusion):
        return {**shown, **_confusion(part, images)}
    if isinstance(part, Reliability):
        return {**shown, "kind": "drawing", "drawing": _reliability(part)}
    if isinstance(part, Scatter):
        return {**shown, "kind": "drawing", "drawing": _scatter(part)}
    more = len(part.rows) - ROWS
    note = f"{part.note} {more:,} more rows are left out.".strip() if more > 0 else part.note
    return {**shown, "columns": part.columns, "rows": part.rows[:ROWS], "note": note}


def _tiles(tiles: Sequence[Tile], images: Images) -> list[dict[str, str]]:
    return [
        {"uri": images.uri(t.id), "map": "", "id": printable(t.id), "caption": printable(t.caption)}
        for t in tiles
    ]


def _confusion(part: Confusion, images: Images) -> dict[str, Any]:
    """Return the matrix's rows, and the images of its cells: mistakes before right answers."""
    cells = []
    for (row, column), tiles in sorted(
        part.tiles.items(), key=lambda c: (c[0][0] == c[0][1], c[0])
    ):
        cells.append(
            {
                "anchor": f"cell-{row}-{column}",
                "truth": printable(part.names[row]),
                "given": printable(part.names[column]),
                "count": part.counts[row][column],
                "tiles": _tiles(tiles, images),
            }
        )
    rows = []
    for i, counts in enumerate(part.counts):
        total = max(1, sum(counts))
        own = [
            {
                "count": n,
                "share": round(n / total, 3),
                "linked": (i, j) in part.tiles,
                "right": i == j,
            }
            for j, n in enumerate(counts)
        ]
        rows.append({"name": printable(part.names[i]), "cells": own})
    return {"names": [printable(n) for n in part.names], "rows": rows, "cells": cells}


def _reliability(part: Reliability) -> Any:
    means, shares = [b[1] for b in part.bins], [b[2] for b in part.bins]
    ends = (0.0, 1.0)
    words = "; ".join(f"{n} images at {p:.2f}: {a:.2f} right" for n, p, a in part.bins)
    return plot(
        [Line("accuracy", means, shares)],
        Axis("probability of the answer", ends=ends),
        Axis("share that is right", ends=ends),
        f"Reliability diagram. {words}",
        diagonal=True,
    )


def _scatter(part: Scatter) -> Any:
    step = -(-len(part.truth) // SCATTERED)
    truth, given = part.truth[::step], part.predicted[::step]
    return plot(
        [Line("images", truth, given, dots=True)],
        Axis("true"),
        Axis("predicted"),
        f"{part.title}: {len(truth):,} images as points",
        diagonal=True,
    )


def _image_notes(images: Images) -> list[str]:
    notes = []
    if images.gone:
        first = printable(min(images.gone))
        notes.append(
            f"{len(images.gone):,} images are not shown: they are no longer where the run found "
            f"them, or have changed, such as {first}."
        )
    if images.left_out:
        notes.append(f"{images.left_out:,} images more are not shown: the file is to stay small.")
    return notes


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as rows of a name and a value."""
    rows: list[tuple[str, Any]] = []
    for name, own in value.items():
        if isinstance(own, Mapping):
            rows += _flat(own, f"{before}{name} ")
        else:
            joined = ", ".join(map(str, own)) if isinstance(own, list) else own
            rows.append((f"{before}{name}".replace("_", " "), joined))
    return rows


def _data_rows(scan: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what the scan found, those things alone that were found."""
    files, sizes = scan.get("files", {}), scan.get("sizes", {})
    rows: list[tuple[str, Any]] = [(f"files {name}", value) for name, value in files.items()]
    rows += [(f"{name} image", " x ".join(map(str, own))) for name, own in sizes.items() if own]
    for key in ("formats", "modes"):
        rows.append((key, ", ".join(f"{name} {n:,}" for name, n in scan.get(key, {}).items())))
    counted = {
        "groups of equal files": "duplicates",
        "of them in two parts": "across_parts",
        "of them under two labels": "two_labels",
        "named as another format": "misnamed",
        "animations, first frame used": "several",
    }
    rows += [(text, len(own)) for text, key in counted.items() if (own := scan.get(key))]
    for key in ("small", "transparent", "sixteen_bit", "flat"):
        if found := scan.get(key, {}).get("count"):
            rows.append((words(key), found))
    near = scan.get("near_duplicates") or {}
    if near.get("across_parts"):
        rows.append(("pairs much alike in two parts", near["across_parts"]))
    if groups := scan.get("groups"):
        rows += _flat({"groups": groups})
    if hint := (scan.get("imbalance") or {}).get("hint"):
        rows.append(("imbalance", hint))
    return rows


def _class_rows(scan: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    parts = [scan.get("classes", {}).get(part, {}) for part in ("train", "val", "test")]
    names = list(dict.fromkeys(name for part in parts for name in part))
    return [(name, *(part.get(name, 0) for part in parts)) for name in names[:ROWS]]


def _commands(folder: RunFolder, metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    path = printable(str(folder.path))
    recipe = shlex.join(["tlkit", "train", "--recipe", f"{path}/spec.yaml", "--out", "NEW"])
    found = [("train the same again", recipe)]
    if metrics["test"]:
        found.append(("measure it again", shlex.join(["tlkit", "evaluate", path])))
    return [
        *found,
        ("label images", f"{shlex.join(['tlkit', 'predict', path])} IMAGES"),
        ("write this report again", shlex.join(["tlkit", "report", path])),
    ]
