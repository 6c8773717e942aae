"""A look at one picture: whether it can be used, and what it is."""

from __future__ import annotations

import contextlib
import threading
from typing import NamedTuple

from tlkit.data.decode import why_undecodable
from tlkit.data.header import read_header
from tlkit.data.near import perceptual_hash
from tlkit.data.sources import Example, content_digest

LARGE = 2**24
"""Pixels, or bytes of a file, above which one picture at a time is looked at: at the limit of
`MAX_PIXELS` one takes half a gigabyte, and there may be as many threads as cores."""

_one_large = threading.RLock()


class Finding(NamedTuple):
    """What a look at a picture told.

    Attributes:
        digest: hash of its content (BLAKE2b, 16 bytes, hexadecimal); empty if it is unusable.
        problem: why it cannot be used, or None.
        format: one of `header.FORMATS`; None for an array, and where it is none of them.
        mode: one of `header.MODES`, or None where it is not known.
        width, height: in pixels, as stored; 0 where they are not known.
        several: whether the file holds an animation, of which the first frame counts.
        bytes: size of the content.
        near: `near.perceptual_hash` of it; None if it was not asked for.
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


def look(example: Example, near: bool = False) -> Finding:
    """Read and decode one example; may be called from several threads.

    Args:
        near: also compute the perceptual hash, which takes about half as long again.
    """
    if example.digest is not None and not near:
        return Finding(example.digest, None)  # looked at when the data set was prepared
    if example.pixels is not None:
        content = example.read()
        height, width = example.pixels.shape[:2]
        return Finding(
            content_digest(content), None, None, "RGB", width, height, False, len(content)
        )
    try:
        content = example.read()
    except OSError as error:
        return Finding("", f"cannot be read: {error.strerror}")
    header = read_header(content)
    large = max(len(content), header.width * header.height) > LARGE
    with _one_large if large else contextlib.nullcontext():
        problem = why_undecodable(content, header)
        digest = "" if problem else content_digest(content)
        hash_ = perceptual_hash(content) if near and not problem else None
    facts = (header.format, header.mode, header.width, header.height, header.several)
    return Finding(digest, problem, *facts, len(content), hash_)
