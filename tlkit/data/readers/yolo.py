"""Boxes and polygons from YOLO text: a file an image, a line an object, in fractions of the image
(https://docs.ultralytics.com/datasets/detect/)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import yaml

from tlkit.data.annotations import Annotations, Box
from tlkit.data.example import Listing
from tlkit.data.numbers import read_number
from tlkit.data.pictures.files import read_file
from tlkit.data.readers.annotated import Annotated, Images, class_name, files_below, part_in, shown
from tlkit.data.targets import Targets
from tlkit.data.wording import few, number
from tlkit.errors import DataError, printable

LISTS = ("classes.txt", "obj.names")
FARTHEST = 1.5
"""A coordinate above this is no fraction of an image that a box may leave a little."""


def read_yolo(data: str | Path, targets: Targets) -> Listing:
    """List the images of a folder that have label files beside them, or in `labels` for `images`.

    Classes have the names of `data.yaml`, `classes.txt` or `obj.names`; parts are those of folders.

    Raises:
        DataError: names file, line and reason; see also `Annotated`.
    """
    root = Path(data).parent if Path(data).is_file() else Path(data)
    images, made = Images(root), Annotated(root, targets)
    files = {image: file for image in images.all if (file := _label_file(image, root))}
    names = _names(root)
    if names is None:
        raise DataError(_unnamed(root, files.values()))
    polygons = 0
    for image, file in files.items():
        label = _read(file, names, root)
        polygons += sum(bool(box.outline) for box in label.boxes)
        made.add(part_in(image, root), image, label)
    if polygons and not made.masks:
        made.notes.append(f"{polygons:,} objects are polygons: the box around each is taken")
    used = {file for file in files.values()}
    alone = [p for p in files_below(root) if p.suffix == ".txt" and "labels" in p.parts]
    alone = [shown(p, root) for p in alone if p not in used and p.name not in LISTS]
    if alone:
        made.notes.append(f"{number(len(alone), 'label file')} without an image: {few(alone)}")
    return made.listing("YOLO text", [image for image in images.all if image not in files])


def _label_file(image: Path, root: Path) -> Path | None:
    """Return the file with an image's objects, if there is one: empty, it says that there are
    none."""
    beside = image.with_suffix(".txt")
    inner = [*image.relative_to(root).parts[:-1]]
    for i in reversed(range(len(inner))):
        if inner[i].lower() == "images":
            path = root.joinpath(*inner[:i], "labels", *inner[i + 1 :], beside.name)
            if path.is_file():
                return path
    return beside if beside.is_file() else None


def _names(root: Path) -> list[str] | None:
    """Return the names of the classes 0, 1, ...; None: nothing says them."""
    described = [p for p in sorted(root.glob("*.y*ml")) if p.suffix in (".yaml", ".yml")]
    for path in described:
        where = f"data {path.name}"
        try:
            content = yaml.safe_load(read_file(path))
        except OSError as error:
            raise DataError(f"{where}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DataError(f"{where}: is not YAML: {printable(str(error))}") from error
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict) and sorted(names) == list(range(len(names))):
            names = [names[i] for i in range(len(names))]
        if names is None:
            continue
        if not isinstance(names, list) or not names:
            raise DataError(f"{where}: names: Allowed: a list, or a mapping from 0 on")
        return [class_name(str(name), f"{where}: names") for name in names]
    for path in files_below(root):
        if path.name in LISTS and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            own = [line.strip() for line in lines if line.strip()]
            return [class_name(name, f"data {shown(path, root)}") for name in own]
    return None


def _unnamed(root: Path, files) -> str:
    counts: Counter[str] = Counter()
    for file in files:
        text = read_file(file).decode("utf-8", "replace")
        counts.update(line.split()[0] for line in text.split("\n") if line.split())
    found = ", ".join(f"{printable(id_)} ({n:,})" for id_, n in sorted(counts.items())[:20])
    return (
        f"data {root}: nothing names the classes of its YOLO labels. Allowed: names in data.yaml, "
        f"or a line for each in classes.txt. Received: ids {found or 'none'}"
    )


def _read(file: Path, names: list[str], root: Path) -> Annotations:
    boxes, places = [], []
    try:
        text = read_file(file).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"data {shown(file, root)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"data {shown(file, root)}: is no text: {error}") from error
    for number_, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"data {shown(file, root)}, line {number_}"
            boxes.append(_box(line.split(), names, place))
            places.append(place.removeprefix("data "))
    return Annotations(tuple(boxes), relative=True, places=tuple(places))


def _box(fields: list[str], names: list[str], place: str) -> Box:
    id_ = read_number(fields[0], f"{place}: class")
    if id_ != int(id_) or not 0 <= id_ < len(names):
        raise DataError(
            f"{place}: class: the names have none of this number. Allowed: 0 to {len(names) - 1}. "
            f"Received: {printable(fields[0])}"
        )
    values = [read_number(value, place) for value in fields[1:]]
    if any(abs(value) > FARTHEST for value in values):
        raise DataError(
            f"{place}: holds fractions of width and height. Allowed: 0 to 1. "
            f"Received: {max(values, key=abs):g}"
        )
    name = names[int(id_)]
    if len(values) == 4:
        x, y, width, height = values
        return Box(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) < 6 or len(values) % 2:
        raise DataError(
            f"{place}: Allowed: a class and x, y, width, height, or a polygon of three points or "
            f"more. Received: {len(fields)} numbers"
        )
    xs, ys = values[::2], values[1::2]
    return Box(name, (min(xs), min(ys), max(xs), max(ys)), outline=(tuple(values),))
