"""Pascal VOC's lists of the images of each part (Everingham et al. 2010, devkit section 5)."""

from __future__ import annotations

from pathlib import Path

from tlkit.data.readers.annotated import shown
from tlkit.errors import DataError, printable


def image_sets(root: Path, kind: str) -> dict[str, str]:
    """Return the part of each stem by the lists in `ImageSets`; nothing where there are none.

    Args:
        kind: of the lists: `Main` (objects), or `Segmentation`.

    Raises:
        DataError: an image stands in two parts.
    """
    folder = root / "ImageSets" / kind
    found: dict[str, str] = {}
    for part in ("train", "val", "test"):
        path = folder / f"{part}.txt"
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            stem = line.split()[0] if line.split() else ""
            if stem and found.setdefault(stem, part) != part:
                raise DataError(
                    f"data {shown(path, root)}: {printable(stem)} stands in two parts, "
                    f"{found[stem]} and {part}"
                )
    return found
