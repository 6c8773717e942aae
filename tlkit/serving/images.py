"""An image of a request made ready for the network, by itself: a damaged one fails alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tlkit.backbones.sides import Size, sides
from tlkit.data.pictures.decode import (
    UNDECODABLE,
    resize,
    traced_decode_and_resize,
    upright_size,
    why_undecodable,
)
from tlkit.data.pictures.header import Header, read_header
from tlkit.data.pictures.rendering import Rendering
from tlkit.serving.limits import Limits


class Unusable(Exception):
    """An image that cannot be answered; the message says why."""


@dataclass(frozen=True)
class Ready:
    """An image as the network takes it.

    Attributes:
        pixels: float32 of the size of the network's input, RGB 0-255.
        height, width: of the upright original, in pixels.
    """

    pixels: np.ndarray
    height: int
    width: int


class Decoder:
    """Decodes images of requests, from any number of threads.

    Args:
        size: of the network's input, see `sides`.
        rendering: how transparency and 16-bit samples are shown, and images resized.
        limits: of the pixels of an image; all images that are being decoded have no more
            together, so that memory stays within limits too.
    """

    def __init__(self, size: Size, rendering: Rendering, limits: Limits):
        self.size, self._fit, self._limits = size, rendering.fit, limits
        self._decode = traced_decode_and_resize(size, rendering)
        self._free, self._changed = limits.pixels, threading.Condition()

    def encoded(self, content: bytes) -> Ready:
        """Return an encoded image, decoded, upright and resized.

        Raises:
            Unusable: it is none, is damaged, or has too many pixels.
        """
        header = read_header(content)
        if problem := header.problem or self._too_large(header):
            raise Unusable(problem)
        with self._room_for(header.width * header.height):
            try:
                pixels = self._decode(content).numpy()
            except UNDECODABLE:
                raise Unusable(why_undecodable(content, header) or "cannot be decoded") from None
        return Ready(pixels, *upright_size(content, header))

    def pixels(self, image: np.ndarray) -> Ready:
        """Return uint8 (height, width, 3) resized."""
        return Ready(resize(image, self.size, self._fit).numpy(), *image.shape[:2])

    def resized(self, image: np.ndarray) -> Ready:
        """Return what has the size of the network's input as it is."""
        return Ready(image, *sides(self.size))

    def _too_large(self, header: Header) -> str | None:
        if header.width * header.height <= self._limits.pixels:
            return None
        return (
            f"too large: {header.width} x {header.height} pixels, at most "
            f"{self._limits.pixels:,} are allowed"
        )

    @contextmanager
    def _room_for(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()
