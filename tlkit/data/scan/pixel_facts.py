"""What a scan says of pixels: transparency, 16-bit samples, images of one colour."""

from __future__ import annotations

from typing import Any

from tlkit.data.pictures.rendering import PLAIN, Rendering, smallest_bits
from tlkit.data.scan.scan import Scan
from tlkit.data.wording import number
from tlkit.progress import Progress

SHOWN = 3
"""Ids that are named in a line."""

LISTED = 1000
"""Ids in a list of `pixel_facts`; beside it stands how many there are in all."""

MOSTLY = 0.9
"""Share of flat images from which the line is a warning: hardly anything is left to learn."""


def pixel_facts(found: Scan) -> dict[str, Any]:
    """Return what was found, ready for JSON, of usable images.

    Returns:
        `transparent`: those with transparent pixels, and `alpha`, what these are shown on;
        `sixteen_bit`: those of 16 bits, their `largest` sample, the `bits` they are read with, and
        those `clipped`, with samples above; `flat`: those of one colour once decoded. Of each their
        `count` and `ids`.
    """
    looks = {id_: found.findings[id_] for id_ in sorted(found.digests) if id_ in found.findings}
    deep = {id_: look.largest for id_, look in looks.items() if look.largest}
    clipped = [id_ for id_, largest in deep.items() if largest > found.rendering.top]
    transparent = [id_ for id_, look in looks.items() if look.transparent]
    return {
        "transparent": {**_counted(transparent), "alpha": found.rendering.alpha},
        "sixteen_bit": {
            **_counted(list(deep)),
            "largest": max(deep.values(), default=0),
            "bits": found.rendering.bits,
            "clipped": _counted(clipped),
        },
        "flat": _counted([id_ for id_, look in looks.items() if look.flat]),
    }


def _counted(ids: list[str]) -> dict[str, Any]:
    return {"count": len(ids), "ids": ids[:LISTED]}


def say_pixels(found: Scan, asked: Rendering, progress: Progress) -> None:
    """Print what a scan before training found of pixels, and what `asked` does not change.

    Args:
        asked: what the spec says; its bits may be open, its alpha without effect.
    """
    facts = pixel_facts(found)
    say_facts(facts, len(found.digests), progress, " (scan.json)")
    if not facts["transparent"]["count"] and asked.alpha != PLAIN.alpha:
        progress.say("alpha", f"{asked.alpha}: no image has transparent pixels; it changes nothing")
    if not facts["sixteen_bit"]["count"] and asked.bits not in (None, PLAIN.bits):
        progress.say("16-bit", f"bits={asked.bits}: no image has 16 bits; it changes nothing here")


def say_facts(
    facts: dict[str, Any], usable: int, progress: Progress, where: str = "", options: bool = True
) -> None:
    """Print what `pixel_facts` returned.

    Args:
        usable: of how many images.
        where: where all of them are listed.
        options: whether it may still be chosen otherwise.
    """
    transparent, flat = facts["transparent"], facts["flat"]
    if count := transparent["count"]:
        alpha = transparent["alpha"]
        how = "are not heeded" if alpha == "drop" else f"are shown on {alpha}"
        others = ", ".join(name for name in ("white", "black", "drop") if name != alpha)
        other = f" (--set alpha=...: {others})" if options else ""
        progress.say("alpha", f"transparent pixels of {number(count, 'image')} {how}{other}")
    say_deep(facts["sixteen_bit"], progress, options)
    if count := flat["count"]:
        few = ": hardly anything is left to learn from" if count >= MOSTLY * usable else ""
        shown = ", ".join(flat["ids"][:SHOWN])
        is_ = "is" if count == 1 else "are"
        text = f"{number(count, 'image')} {is_} of one colour once decoded{where}, such as {shown}"
        progress.say("flat", text + (few if options else ""))


def say_deep(deep: dict[str, Any], progress: Progress, options: bool) -> None:
    """Print what `pixel_facts` returned of 16-bit images; `options` as for `say_facts`."""
    count, largest, bits = (deep[name] for name in ("count", "largest", "bits"))
    if not count:
        return
    top, fewest = 2**bits - 1, smallest_bits(largest)
    text = f"{number(count, 'image')}, values up to {largest:,}: read as {bits} bits"
    if not options:
        text += ", as in training"
    elif bits != 16:
        text += " (--set bits=16 for the whole range)"
    if clipped := deep["clipped"]["count"]:
        text += f"; values above {top:,} are white, in {number(clipped, 'image')}"
    elif fewest < bits:
        text += f"; they are dark, since that range goes to {top:,}"
        text += f" (--set bits={fewest})" if options else ""
    progress.say("16-bit", text)
