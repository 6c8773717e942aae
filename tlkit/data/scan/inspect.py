"""A look at one image: whether it can be used, and what it is."""

from __future__ import annotations

import contextlib
import threading
from typing import NamedTuple

import numpy as np

from tlkit.data.example import Example, Facts, content_digest
from tlkit.data.pictures.decode import (
    UNDECODABLE,
    orientation_of,
    pixels_as_stored,
    samples,
    upright,
)
from tlkit.data.pictures.header import Header, damaged, read_header
from tlkit.data.pictures.rendering import PLAIN, Rendering, blend_array, smallest_bits
from tlkit.data.scan.near_duplicates import perceptual_hash

LARGE = 2**24
"""Pixels, or bytes of a file, above which one image at a time is looked at: at the limit of
`MAX_PIXELS` one takes half a gigabyte, and there may be as many threads as cores."""

FLAT = 2
"""Levels (0-255) by which each channel of an image that counts as flat may vary: what lossy
compression makes of a single colour."""

_one_large = threading.RLock()


class Finding(NamedTuple):
    """What a look at an image told.

    Attributes:
        digest: hash of its content (BLAKE2b, 16 bytes, hexadecimal); empty if it is unusable.
        problem: why it cannot be used, or None.
        format: one of `header.FORMATS`; None for an array, and where it is none of them.
        mode: one of `header.MODES`, or None where it is not known.
        width, height: in pixels, as stored; 0 where they are not known.
        orientation: of EXIF, 1 to 8; 1: it is shown as stored.
        several: whether the file holds an animation, of which the first frame counts.
        bytes: size of the content.
        near: `near.perceptual_hash` of it; None if it was not asked for.
        transparent: whether pixels of it are transparent, wholly or in part.
        largest: the largest sample of a 16-bit image, transparent pixels left out; 0 for others.
        flat: whether it is of one colour, within `FLAT` levels, once decoded.
        alpha, bits: the `Rendering` that `near` and `flat` hold for; None where it does not matter,
            since nothing is transparent, or no sample has 16 bits.
    """

    digest: str
    problem: str | None
    format: str | None = None
    mode: str | None = None
    width: int = 0
    height: int = 0
    several: bool = False
    bytes: int = 0
    near: int | None = None
    transparent: bool = False
    largest: int = 0
    flat: bool = False
    alpha: str | None = None
    bits: int | None = None
    orientation: int = 1

    @property
    def facts(self) -> Facts | None:
        """What of the pixels prepared data keeps; None of an image of which there is no news."""
        if self.transparent or self.largest or self.flat:
            return Facts(self.transparent, self.largest, self.flat, self.alpha, self.bits)
        return None

    def holds_for(self, rendering: Rendering) -> bool:
        """Tell whether `near` and `flat` are those of an image that is shown like this."""
        bits = (None, rendering.bits) if rendering.bits else (None, self.bits)
        return self.alpha in (None, rendering.alpha) and self.bits in bits

    def variant(self, rendering: Rendering) -> str:
        """Return the image's hash, with how it is shown and resized where that changes pixels."""
        alpha = f"-{rendering.alpha}" if self.transparent and rendering.alpha != "drop" else ""
        bits = f"-{rendering.bits}bit" if self.largest and rendering.bits != 16 else ""
        fit = "" if rendering.fit == PLAIN.fit else f"-{rendering.fit}"
        return f"{self.digest}{alpha}{bits}{fit}"


def look(example: Example, near: bool = False, rendering: Rendering = PLAIN) -> Finding:
    """Read and decode one example; may be called from several threads.

    Args:
        near: also compute the perceptual hash, which takes about half as long again.
        rendering: how it is to be shown; without bits, by its own largest sample.
    """
    if example.digest is not None and not near:
        known = Finding(example.digest, None)  # looked at when the data set was prepared
        if example.facts is not None:
            known = known._replace(**example.facts._asdict())
        if known.holds_for(rendering):
            return known
    if example.pixels is not None:
        return _look_at_array(example, rendering)
    try:
        content = example.read()
    except OSError as error:
        return Finding("", f"cannot be read: {error.strerror}")
    header = read_header(content)
    facts = (header.format, header.mode, header.width, header.height, header.several)
    if header.problem:
        return Finding("", header.problem, *facts, len(content))
    large = max(len(content), header.width * header.height) > LARGE
    with _one_large if large else contextlib.nullcontext():
        try:
            seen = _look_at_pixels(content, header, near, rendering)
        except UNDECODABLE:
            return Finding("", damaged(content, header.format), *facts, len(content))
    turned = orientation_of(content)
    return Finding(content_digest(content), None, *facts, len(content), *seen, turned)


def _look_at_array(example: Example, rendering: Rendering) -> Finding:
    content, pixels = example.read(), example.pixels
    height, width, channels = pixels.shape
    transparent = channels == 4 and bool((pixels[..., 3] < 255).any())
    return Finding(
        content_digest(content),
        None,
        mode="alpha" if channels == 4 else "RGB",
        width=width,
        height=height,
        bytes=len(content),
        transparent=transparent,
        flat=_is_flat(blend_array(pixels, rendering)),
        alpha=rendering.alpha if transparent else None,
    )


def _look_at_pixels(content: bytes, header: Header, near: bool, rendering: Rendering) -> tuple:
    """Return the fields of a finding from `near` on."""
    transparent, largest = False, 0
    if header.format == "PNG" and (header.deep or header.layered):
        stored = samples(content)
        alpha = stored[..., 3]
        transparent = bool(alpha.min() < np.iinfo(stored.dtype).max)
        if header.deep:
            seen = stored[..., :3][alpha > 0] if transparent else stored[..., :3]
            largest = int(seen.max(initial=1))  # 0 would say that it has no 16 bits
            rendering = rendering._replace(bits=rendering.bits or smallest_bits(largest))
        pixels = blend_array(stored, rendering)
        del stored, alpha
    else:
        pixels = pixels_as_stored(content, header, rendering)
    if header.layered and header.format != "PNG":
        other = rendering._replace(alpha="black" if rendering.alpha == "white" else "white")
        on_other = pixels_as_stored(content, header, other)
        transparent = not np.array_equal(pixels, on_other)  # it depends on the ground
    hash_ = perceptual_hash(upright(pixels, content)) if near else None
    kind = (rendering.alpha if transparent else None, rendering.bits if largest else None)
    return hash_, transparent, largest, _is_flat(pixels), *kind


def _is_flat(pixels: np.ndarray) -> bool:
    """Tell whether each channel varies by `FLAT` levels at most."""
    # A few pixels tell of nearly every image that it is not flat, in no time.
    for some in (pixels[:: max(1, len(pixels) // 8), :: max(1, pixels.shape[1] // 8)], pixels):
        channels = (some[..., channel] for channel in range(some.shape[-1]))
        if any(float(channel.max()) - float(channel.min()) > FLAT for channel in channels):
            return False
    return True
