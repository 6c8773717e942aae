"""Does a mask fit its image? By the sizes of both, as stored and upright."""

from __future__ import annotations

from dataclasses import replace

from tlkit.data.example import FileLabel
from tlkit.data.scan.inspect import Finding
from tlkit.errors import printable


def fitted(
    label: FileLabel, mask: Finding, image: Finding, orientation: int
) -> tuple[FileLabel | None, str]:
    """Return a label that knows its content and the size of its image; or None, and why not.

    A mask of another size than its image is fine where the aspect is the same, within a pixel of
    rounding. Of an image that EXIF turns by a quarter the aspect tells whether the mask is meant
    for it as shown; that of a square, or of one that is mirrored or on its head, tells nothing.

    Args:
        orientation: EXIF's, 1 to 8, of the image.
    """
    name = printable(label.path.name)
    if mask.problem:
        return None, f"its mask {name}: {mask.problem}"
    if image.problem:
        return None, ""
    stored = (image.width, image.height)
    upright = stored[::-1] if orientation >= 5 else stored
    what = "its outlines are" if label.drawn else f"its mask {name} is"
    size = f"{what} of {mask.width} x {mask.height} pixels, the image of "
    if not _alike((mask.width, mask.height), upright):
        if orientation >= 5 and _alike((mask.width, mask.height), stored):
            return None, (
                f"{size}{stored[0]} x {stored[1]} as stored, but it is turned by its EXIF "
                "orientation when shown. Save both upright"
            )
        return None, f"{size}{upright[0]} x {upright[1]}"
    if orientation in (2, 3, 4) or (orientation >= 5 and _alike(stored, upright)):
        return None, (
            f"it is turned by its EXIF orientation: whether {what} meant for the image as stored "
            "or as shown cannot be told. Save it upright"
        )
    return replace(label, digest=mask.digest, shape=upright[::-1]), ""


def _alike(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Tell whether two sizes have one aspect, within a pixel of the smaller: it was rounded."""
    (a, b), (c, d) = mask, image
    if a == c or b == d:
        return mask == image
    return abs(a * d - b * c) <= max(a, b, c, d)
