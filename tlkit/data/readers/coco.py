"""Boxes and outlines from COCO JSON (Lin et al. 2014; https://cocodataset.org/#format-data)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from tlkit.data.annotations import Annotations, Box
from tlkit.data.example import Listing
from tlkit.data.numbers import read_number
from tlkit.data.pictures.files import parse_json, read_file
from tlkit.data.readers.annotated import Annotated, Images, class_name, files_below, part_in, shown
from tlkit.data.readers.folder_names import part_of
from tlkit.data.regions import box_of, rle_of
from tlkit.data.targets import Targets
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable, received

KEYS = ("images", "annotations", "categories")


def read_coco(data: str | Path, targets: Targets) -> Listing:
    """List the images that JSON files name: one file, or all below a folder, each a part.

    Classes are known by their names: ids may have holes, and two of one name are one class.

    Raises:
        DataError: names file, id and reason; see also `Annotated`.
    """
    path = Path(data)
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else [p for p in files_below(root) if p.suffix == ".json"]
    images, made, listed = Images(root), Annotated(root, targets), set()
    for file in files:
        listed |= _read(file, images, made)
    others = [] if path.is_file() else [image for image in images.all if image not in listed]
    return made.listing("COCO JSON", others)


def _read(file: Path, images: Images, made: Annotated) -> set[Path]:
    """Add what a file says; return its images."""
    where = f"data {shown(file, made.root)}"
    content = _parsed(file, where)
    names = _names(content["categories"], where, made.notes)
    part = part_in(file, made.root) or _part_by_name(file.stem)
    found, missing = {}, []
    for item in content["images"]:
        id_, name = item.get("id"), str(item.get("file_name", ""))
        image = images.find(name, file)
        if image is None:
            missing.append(printable(name))
        found[id_] = image, _side(item, "height", where), _side(item, "width", where)
    if missing:
        text = number(len(missing), "image")
        made.notes.append(f"{where.removeprefix('data ')}: {text} not there: {few(missing)}")
    boxes: dict[Any, list[tuple[Box, str]]] = {id_: [] for id_ in found}
    crowds = 0
    for item in content["annotations"]:
        place = f"{where}, annotation {item.get('id')}"
        if item.get("image_id") not in found:
            raise DataError(f"{place}: image_id: no image has it. Received: {item.get('image_id')}")
        if item.get("category_id") not in names:
            raise DataError(
                f"{place}: category_id: no category has it. Allowed: "
                f"{', '.join(map(str, names))}. Received: {item.get('category_id')}"
            )
        if item.get("iscrowd"):  # a region of many objects, which is no box of one
            crowds += 1
            if not made.masks:
                continue
        box = _box(item, names[item["category_id"]], place)
        boxes[item["image_id"]].append((box, place.removeprefix("data ")))
    if crowds:
        used = "are areas of their class" if made.masks else "left out: no single objects"
        made.notes.append(f"{crowds:,} crowd regions (iscrowd) {used}")
    for id_, (image, height, width) in found.items():
        if image is not None:
            own, places = zip(*boxes[id_], strict=True) if boxes[id_] else ((), ())
            made.add(part, image, Annotations(tuple(own), height, width, places=tuple(places)))
    return {image for image, _, _ in found.values() if image is not None}


def _parsed(file: Path, where: str) -> dict[str, Any]:
    try:
        content = parse_json(read_file(file))
    except OSError as error:
        raise DataError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{where}: is not JSON: {printable(str(error))}") from error
    sound = isinstance(content, dict) and all(
        isinstance(content.get(key), list) and all(isinstance(x, dict) for x in content[key])
        for key in KEYS
    )
    if not sound:
        raise DataError(f"{where}: is not COCO: needs the lists images, annotations, categories")
    return content


def _names(categories: list[dict[str, Any]], where: str, notes: list[str]) -> dict[Any, str]:
    """Return the name of each id."""
    names = {
        item.get("id"): class_name(str(item.get("name", "")), f"{where}: category name")
        for item in categories
    }
    for name, count in Counter(names.values()).items():
        if count > 1:
            ids = " and ".join(str(id_) for id_, other in names.items() if other == name)
            notes.append(f"categories {ids} have one name, {name}: they are one class")
    return names


def _side(item: dict[str, Any], side: str, where: str) -> int:
    value = item.get(side) or 0
    return int(read_number(value, f"{where}, image {item.get('id')}: {side}"))


def _box(item: dict[str, Any], name: str, place: str) -> Box:
    given, drawn = item.get("bbox"), item.get("segmentation")
    rle = rle_of(drawn, place) if isinstance(drawn, dict) else None
    outline = _outline(drawn, place) if isinstance(drawn, list) else ()
    if isinstance(given, list) and len(given) == 4:
        x, y, width, height = (read_number(value, f"{place}: bbox") for value in given)
        return Box(name, (x, y, x + width, y + height), outline=outline, rle=rle)
    if rle:
        return Box(name, box_of(rle), rle=rle)
    if not outline:
        raise DataError(f"{place}: bbox: Allowed: [x, y, width, height]. Received: {given}")
    xs, ys = ([v for polygon in outline for v in polygon[start::2]] for start in (0, 1))
    return Box(name, (min(xs), min(ys), max(xs), max(ys)), outline=outline)


def _outline(polygons: list[Any], place: str) -> tuple[tuple[float, ...], ...]:
    """Return the polygons of an object; one of fewer than three points covers nothing."""
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise DataError(
                f"{place}: segmentation: Allowed: polygons [x, y, x, y, ...], or run lengths. "
                f"Received: {received(polygon)}"
            )
    drawn = [polygon for polygon in polygons if len(polygon) >= 6]
    return tuple(tuple(read_number(v, f"{place}: segmentation") for v in x) for x in drawn)


def _part_by_name(stem: str) -> str | None:
    """Return the part that the name of a file says, as in `instances_train2017`."""
    return next((part for word in re.split(r"[_.-]+", stem) if (part := part_of(word))), None)
