"""Boxes held against their images: the frame they are meant in, clipped to it, or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tlkit.backbones.sides import Size
from tlkit.data.annotations import Annotations, Corners
from tlkit.data.example import Example
from tlkit.data.pictures.placement import STRETCH, placement
from tlkit.data.scan.inspect import Finding
from tlkit.data.wording import few, number
from tlkit.errors import DataError
from tlkit.progress import Progress

TURN = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}
"""Where a point of an image as stored is when it is shown, in fractions of its sides, by its EXIF
orientation (CIPA DC-008, tag 0x0112)."""

SUSPICIOUS = 0.2
"""Share of boxes outside of their images, or inside out, from which their format is doubted."""

DRAWN = 9
"""Images that a contact sheet shows with their boxes."""

ROUNDING = 0.01
"""Pixels by which a box leaves its image by rounding alone, as fractions with six digits do."""

SHOWN = 1000
"""Boxes of each kind that are listed by file and line; the counts are of all."""


@dataclass
class Fitted:
    """Annotations as the upright images have them.

    Attributes:
        labels: by id of the image.
        problems: why an image cannot be used, by id.
        report: what `summary` puts into scan.json: `boxes`, `images`, `without`: counts; `inside`:
            the share of boxes wholly inside of their images, as given; `clipped`, `dropped`: id,
            place and corners of each; `turned`: images turned by EXIF, and `frame`, what their
            boxes are meant in: `stored`, `upright`, or `upright, assumed`; `drawn`: ids of images
            for a contact sheet.
    """

    labels: dict[str, Annotations] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def fit_boxes(
    examples: Sequence[Example],
    findings: dict[str, Finding],
    size: Size | None = None,
    fit: str = STRETCH,
    empties: bool = False,
) -> Fitted:
    """Put the boxes of examples into their upright images.

    A box that leaves its image is clipped; one that is then narrower or lower than a pixel, of the
    image or of the model's input, is dropped.

    Args:
        findings: of each example, by id.
        size: size of the model's input, see `sides`; None: boxes are held against the image alone.
        fit: how images are brought to it, see `placement`.
        empties: whether images that have no box from the start are used; else they are left out.

    Raises:
        DataError: of images that are turned by EXIF some sizes are given as stored, others as
            shown: no one frame holds for all.
    """
    own = [e for e in examples if isinstance(e.label, Annotations) and not findings[e.id].problem]
    if not own:
        return Fitted()
    findings = {e.id: _known(e.label, findings[e.id]) for e in own}
    frame = _frame(own, findings)
    fitted = Fitted(report={"clipped": [], "dropped": [], "inside": 0, "boxes": 0, "without": 0})
    for example in own:
        _fit(example, findings[example.id], frame, (size, fit), fitted, empties)
    turned = sum(findings[e.id].orientation != 1 for e in own)
    boxes = fitted.report["boxes"]
    share = round(fitted.report["inside"] / boxes, 4) if boxes else None
    fitted.report |= {"images": len(own), "inside": share, "turned": turned, "frame": frame}
    fitted.report["drawn"] = list(fitted.labels)[:: max(1, len(fitted.labels) // DRAWN)][:DRAWN]
    for kind in ("clipped", "dropped"):
        fitted.report[f"{kind}_count"] = len(fitted.report[kind])
        fitted.report[kind] = fitted.report[kind][:SHOWN]
    return fitted


def _known(label: Annotations, finding: Finding) -> Finding:
    """Return a finding with the size that prepared annotations have kept of their image."""
    if not label.fitted:
        return finding
    return finding._replace(height=label.height, width=label.width, orientation=1)


def _sides(finding: Finding) -> tuple[int, int]:
    """Return height and width of the upright image."""
    stored = finding.height, finding.width
    return stored[::-1] if finding.orientation >= 5 else stored


def _frame(examples: Sequence[Example], findings: dict[str, Finding]) -> str:
    """Return what boxes of turned images are meant in, by the sizes that are given with them."""
    votes: dict[str, list[str]] = {"stored": [], "upright": []}
    for example in examples:
        finding, label = findings[example.id], example.label
        if finding.orientation < 5 or finding.height == finding.width or not label.width:
            continue
        given = label.height, label.width
        if given == (finding.height, finding.width):
            votes["stored"].append(example.id)
        elif given == _sides(finding):
            votes["upright"].append(example.id)
    if votes["stored"] and votes["upright"]:
        raise DataError(
            "annotations: of images that are turned by their EXIF orientation some sizes are those "
            f"of the image as stored ({few(votes['stored'])}), others those of the image as shown "
            f"({few(votes['upright'])}): what their boxes are meant in cannot be told. Allowed: "
            "one of the two for all, or images saved upright"
        )
    named = [name for name, ids in votes.items() if ids]
    return named[0] if named else "upright, assumed"


def _fit(
    example: Example,
    finding: Finding,
    frame: str,
    seen: tuple[Size | None, str],
    fitted: Fitted,
    empties: bool,
) -> None:
    label, (height, width) = example.label, _sides(finding)
    given = (label.height, label.width) if label.width else None
    as_stored = frame == "stored" and finding.orientation != 1
    expected = (finding.height, finding.width) if as_stored else (height, width)
    if given and given != expected:
        fitted.problems[example.id] = (
            f"its annotations are of an image of {given[1]} x {given[0]} pixels, the image has "
            f"{expected[1]} x {expected[0]}"
        )
        return
    kept, places = [], []
    for i, box in enumerate(label.boxes):
        place = label.places[i] if i < len(label.places) else ""
        corners = box.corners
        if label.relative:
            corners = _scaled(corners, expected[1], expected[0])
        if as_stored:
            corners = _turned(corners, expected, finding.orientation, height, width)
        clipped = _clipped(corners, height, width)
        row = {"id": example.id, "place": place, "box": list(corners)}
        fitted.report["boxes"] += 1
        least = _least(height, width, *seen)
        if clipped[2] - clipped[0] < least[0] or clipped[3] - clipped[1] < least[1]:
            fitted.report["dropped"].append(row)
            continue
        if max(abs(a - b) for a, b in zip(clipped, corners, strict=True)) > ROUNDING:
            fitted.report["clipped"].append(row)
        else:
            fitted.report["inside"] += 1
        kept.append(box._replace(corners=clipped, outline=(), rle=None))
        places.append(place)
    if not kept:
        fitted.report["without"] += 1
    # Where boxes were dropped there is something: to train on it as empty would teach a fault.
    if not kept and (label.boxes or not empties):
        fitted.problems[example.id] = "has no box"
        if label.boxes:
            w, h = (_round(x) for x in label.boxes[0].extent)
            where = f" ({label.places[0]})" if label.places else ""
            fitted.problems[example.id] = f"its box is dropped: {w} x {h} pixels{where}"
        return
    whole = {"height": height, "width": width, "relative": False, "fitted": True}
    fitted.labels[example.id] = replace(label, boxes=tuple(kept), places=tuple(places), **whole)


def _least(height: int, width: int, size: Size | None, fit: str) -> tuple[float, float]:
    """Return the least width and height of a box, in pixels of its image."""
    if size is None:
        return 1.0, 1.0
    place = placement(height, width, size, fit)
    return max(1.0, width / place.width), max(1.0, height / place.height)


def _round(value: float) -> float:
    return round(value, 3) if value != int(value) else int(value)


def _scaled(corners: Corners, width: float, height: float) -> Corners:
    x1, y1, x2, y2 = corners
    return x1 * width, y1 * height, x2 * width, y2 * height


def _turned(
    corners: Corners, stored: tuple[int, int], orientation: int, height: int, width: int
) -> Corners:
    """Return corners of the image as stored, which is of (height, width) `stored`, upright."""
    x1, y1, x2, y2 = _scaled(corners, 1 / stored[1], 1 / stored[0])
    turn = TURN[orientation]
    (left, top), (right, low) = turn(x1, y1), turn(x2, y2)
    ordered = min(left, right), min(top, low), max(left, right), max(top, low)
    return _scaled(ordered, width, height)


def _clipped(corners: Corners, height: int, width: int) -> Corners:
    x1, y1, x2, y2 = corners
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def say_boxes(report: dict[str, Any], progress: Progress) -> None:
    """Say how boxes lie in their images, and what was done to those that do not."""
    if not report:
        return
    boxes = report["boxes"]
    if not boxes:
        progress.say("boxes", "there are none")
        return
    word = "box" if boxes == 1 else "boxes"
    progress.say(
        "boxes",
        f"{boxes:,} {word} in {number(report['images'], 'image')}, {report['inside']:.1%} wholly "
        "inside of their image",
    )
    for kind, what in (("clipped", "clipped to the image"), ("dropped", "dropped")):
        if rows := report[kind]:
            named = few([row["place"] or row["id"] for row in rows])
            progress.say(kind, f"{report[f'{kind}_count']:,} {what} (all in scan.json): {named}")
    if report["turned"]:
        frame = {
            "stored": "are meant in the image as stored, by the sizes given, and turned with it",
            "upright": "are meant in the image as shown, by the sizes given",
        }.get(report["frame"], "are taken as meant in the image as shown: no sizes are given")
        turned = number(report["turned"], "image")
        progress.say("exif", f"boxes of {turned} turned by the EXIF orientation {frame}")
    if report["inside"] < 1 - SUSPICIOUS:
        progress.say(
            "note",
            "many boxes leave their images: corners are x1, y1, x2, y2; are these x, y, width and "
            "height, or of images of another size?",
        )
