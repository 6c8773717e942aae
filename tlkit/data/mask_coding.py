"""Values of masks: how they are read from files, and what they are taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from tlkit.data.wording import few, number
from tlkit.errors import DataError
from tlkit.spec.coding import NOTHING, VOID, Coding

COLOUR = 1 << 24
"""Added to a colour 0xRRGGBB, to tell it from a number."""

UNNAMED = 40
"""Values up to which they are taken for classes that nobody has named: more are mostly grey levels
(an image in the place of a mask, or edges that resizing has blurred)."""


def values_in(image: Image.Image) -> np.ndarray:
    """Return the value of each pixel of a mask, int32 (height, width).

    That is the number of a grey or palette image, and of one in colours whose three channels are
    equal everywhere; else the colour as 0xRRGGBB + `COLOUR`. Alpha is left aside.
    """
    if image.mode in ("RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    elif image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    return (red << 16) + (green << 8) + blue + COLOUR


def class_numbers(coding: Coding, values: np.ndarray, where: str) -> np.ndarray:
    """Return the class of each pixel uint8 (height, width), `VOID` where there is none.

    Args:
        values: of a mask, see `values_in`.
        where: begins an error message.

    Raises:
        DataError: a value stands for no class.
    """
    found, places = np.unique(values, return_inverse=True)
    found = [key_of(value, coding) for value in found.tolist()]
    unknown = [x for x in found if x not in coding.table]
    if unknown:
        shown = few([written(x + COLOUR * coding.colours) for x in unknown])
        raise DataError(
            f"{where}: holds values that stand for no class. Allowed: {', '.join(coding.values)} "
            f"(--set mask_values=[...]). Received: {shown}"
        )
    numbers = np.array([coding.table[x] for x in found], np.uint8)
    return numbers[places].reshape(values.shape)


def key_of(value: int, coding: Coding) -> int:
    """Return the key of `Coding.table` for a value; among colours a number is a grey."""
    if not coding.colours:
        return value
    return value - COLOUR if value >= COLOUR else value * 0x010101


def written(value: int) -> str:
    """Return a value as it stands in `mask_values`."""
    return f"{value - COLOUR:06x}" if value >= COLOUR else str(value)


def told(counts: Mapping[int, int]) -> str:
    """Return values with their share of all pixels, the most frequent first."""
    total = sum(counts.values())
    order = sorted(counts, key=lambda value: -counts[value])
    return few([f"{written(value)} ({100 * counts[value] / total:.1f}%)" for value in order])


def code(
    counts: Mapping[int, int], names: Sequence[str], colours: Mapping[str, str], where: str
) -> tuple[Coding, str]:
    """Take the values of a set of masks for classes.

    Values alone tell of {0, 255} and {0, 1} that they are background and foreground, of 255 beside
    others that it is void (as in PASCAL VOC), of 1 to 3 that they are a trimap's; of colours they
    tell nothing.

    Args:
        counts: pixels of each value, see `values_in`, in all masks.
        names: of the classes in order, from a file; empty: there is none.
        colours: name by colour (six hexadecimal digits), from a file; empty: there is none.
        where: begins an error message.

    Returns:
        The coding, and what the values were taken for, in words.

    Raises:
        DataError: it cannot be told what they are.
    """
    if any(value >= COLOUR for value in counts):
        return _colours(counts, colours, where)
    found = sorted(counts)
    pairs = _named(found, names) if names else _unnamed(found)
    if pairs is None:
        why = f"the {number(len(names), 'name')} of its classes" if names else "class numbers"
        raise DataError(
            f"{where}: the values in its masks do not fit {why}. Allowed: --set "
            f"mask_values=[0=NAME, 1=NAME, ...], void for pixels without a class; masks saved "
            f"without loss (no JPEG), resized by nearest. Received: {told(counts)}"
        )
    try:
        coding = Coding(tuple(f"{value}={name}" for value, name in pairs))
    except ValueError as error:
        raise DataError(f"{where}: masks: {error}. Values: {told(counts)}") from error
    return coding, f"masks hold {told(counts)}: taken for {', '.join(coding.values)}"


def _colours(
    counts: Mapping[int, int], colours: Mapping[str, str], where: str
) -> tuple[Coding, str]:
    keys = {f"{(v - COLOUR if v >= COLOUR else v * 0x010101):06x}": v for v in counts}
    unknown = {keys[key]: counts[keys[key]] for key in keys if key not in colours}
    if unknown:
        raise DataError(
            f"{where}: masks hold colours that nothing names. Allowed: a file class_dict.csv "
            "(name,r,g,b) beside them, or --set mask_values=[000000=background, ff0000=car, ...]. "
            f"Received: {told(unknown)}"
        )
    coding = Coding(tuple(f"{colour}={name}" for colour, name in colours.items()))
    return coding, f"masks hold {number(len(counts), 'colour')}, as the table names them"


def _named(found: list[int], names: Sequence[str]) -> list[tuple[int, str]] | None:
    """Return values with the names of a file, in its order; None where they do not fit."""
    count, own = len(names), [value for value in found if value != VOID]
    void = [(VOID, NOTHING)] if VOID in found and count <= VOID else []
    if count == 2 and set(found) <= {0, 255}:
        return [(0, names[0]), (255, names[1])]
    if all(value < count for value in own):
        return [*enumerate(names), *void]
    if 0 not in own and all(value <= count for value in own):
        return [*enumerate(names, start=1), *void]
    return None


def _unnamed(found: list[int]) -> list[tuple[int, str]] | None:
    """Return values with names by rule; None where they are too many to be classes."""
    if set(found) <= {0, 255} or (len(found) == 2 and found[0] == 0):
        return list(zip(found, ("background", "foreground"), strict=False))
    if len(found) > UNNAMED:
        return None
    return [(value, NOTHING if value == VOID else f"class {value}") for value in found]
