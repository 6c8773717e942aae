"""What one service takes before it says no; printed at its start."""

from __future__ import annotations

from dataclasses import dataclass

BODY_SECONDS = 20.0
"""Within which the body of a request has to arrive, and its headers: slower ones are let go."""

RETRY_SECONDS = 1
"""What `Retry-After` of a 503 says."""


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Attributes:
        megabytes: of a body (10^6 bytes).
        megapixels: of an image (10^6 pixels), told by its header before it is decoded.
        batch: most images that the network gets at once, a power of two; 1: no batching.
        images: most in one request.
        waiting: most images that are in the house, decoded, waiting or computed; those of
            further requests are refused with 503.
        held: most bytes of all bodies together; further ones are refused with 503.
        values: most numbers in an answer of TensorFlow Serving's form: maps of classes of large
            images would be gigabytes of JSON.
    """

    megabytes: int = 32
    megapixels: int = 50
    batch: int = 32
    images: int = 64
    waiting: int = 256
    held: int = 256_000_000
    values: int = 4_000_000

    @property
    def body(self) -> int:
        """Most bytes of a body."""
        return self.megabytes * 1_000_000

    @property
    def pixels(self) -> int:
        """Most pixels of an image."""
        return self.megapixels * 1_000_000

    def __str__(self) -> str:
        return (
            f"{self.megabytes} MB a request (within {BODY_SECONDS:.0f} s), {self.images} images; "
            f"{self.megapixels} megapixels an image; {self.waiting} images at a time, beyond: 503; "
            f"batches of up to {self.batch}"
        )
