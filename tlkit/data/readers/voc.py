"""Boxes from Pascal VOC: an XML file for each image (Everingham et al. 2010, devkit section 6)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from tlkit.data.annotations import Annotations, Box
from tlkit.data.example import Listing
from tlkit.data.numbers import read_number
from tlkit.data.pictures.files import read_file
from tlkit.data.readers.annotated import Annotated, Images, class_name, files_below, part_in, shown
from tlkit.data.readers.image_sets import image_sets
from tlkit.data.targets import Targets
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(data: str | Path, targets: Targets) -> Listing:
    """List the images of a folder by their XML files, wherever in it both lie.

    Parts are those of `ImageSets/Main`, or of folders.

    Raises:
        DataError: names file and reason; see also `Annotated`.
    """
    root = Path(data)
    images, made = Images(root), Annotated(root, targets)
    parts, found, missing = image_sets(root, "Main"), {}, []
    for path in files_below(root):
        if path.suffix.lower() != ".xml":
            continue
        name, label = _read(path, root)
        image = images.find(path.stem, path) or (images.find(name, path) if name else None)
        if image is None:
            missing.append(shown(path, root))
        else:
            found[path] = image, label
    one_based = _is_one_based([label for _, label in found.values()])
    if one_based:
        made.notes.append(
            "corners count pixels from 1 (none is 0, and some box ends at the last pixel): 1 is "
            "taken off xmin and ymin"
        )
    if missing:
        made.notes.append(f"{number(len(missing), 'XML file')} without an image: {few(missing)}")
    aside = 0
    for path, (image, label) in found.items():
        part = parts.get(path.stem) if parts else part_in(image, root)
        if parts and part is None:
            aside += 1
            continue
        made.add(part, image, _from_zero(label) if one_based else label)
    if aside:
        made.notes.append(f"{number(aside, 'image')} left out: in no list of ImageSets/Main")
    known = {image for image, _ in found.values()}
    return made.listing("Pascal VOC XML", [path for path in images.all if path not in known])


def _read(path: Path, root: Path) -> tuple[str, Annotations]:
    """Return the file name that a file gives, and what it says."""
    where = f"data {shown(path, root)}"
    top = _parsed(path, where)
    boxes, places = [], []
    for i, item in enumerate(top.iter("object"), start=1):
        place = f"{where}, object {i}"
        corners = item.find("bndbox")
        if corners is None:
            raise DataError(f"{place}: has no bndbox")
        values = [read_number((corners.findtext(e) or "").strip(), f"{place}: {e}") for e in EDGES]
        name = class_name(item.findtext("name") or "", f"{place}: name")
        aside = "difficult" if (item.findtext("difficult") or "").strip() == "1" else ""
        boxes.append(Box(name, tuple(values), aside))
        places.append(place.removeprefix("data "))
    width, height = (
        int(read_number((top.findtext(f"size/{side}") or "0").strip(), f"{where}: {side}"))
        for side in ("width", "height")
    )
    sized = width > 0 and height > 0
    label = Annotations(tuple(boxes), height * sized, width * sized, places=tuple(places))
    return (top.findtext("filename") or "").strip(), label


def _parsed(path: Path, where: str) -> ElementTree.Element:
    """Return the root of an XML file that defines nothing of its own: entities could expand to
    gigabytes, or name other files."""

    def refuse(*_: object) -> None:
        raise DataError(
            f"{where}: declares a document type, which may hold entities. Allowed: plain XML"
        )

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = refuse
    try:
        content = read_file(path)
        checker.Parse(content, True)
        return ElementTree.fromstring(content)
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror}") from error
    except (expat.ExpatError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{where}: is not XML: {printable(str(error))}") from error


def _is_one_based(labels: list[Annotations]) -> bool:
    """Tell whether corners count from 1, as in the devkit: many tools count from 0."""
    boxes = [(label, box.corners) for label in labels for box in label.boxes]
    least = min((min(corners[:2]) for _, corners in boxes), default=0)
    return least >= 1 and any(label.width and corners[2] == label.width for label, corners in boxes)


def _from_zero(label: Annotations) -> Annotations:
    boxes = tuple(
        box._replace(corners=(box.corners[0] - 1, box.corners[1] - 1, *box.corners[2:]))
        for box in label.boxes
    )
    return replace(label, boxes=boxes)
