"""Images of many requests, answered together: a queue, and one thread that computes.

Nothing waits for company. What has come while a batch was computed is the next one, so a client by
itself is answered at once, and the more there are the larger batches get.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlkit.serving.limits import Limits

STANDING_SECONDS = 0.2
"""A queue that was not empty for so long is no burst that will be over soon."""

TIMES_ALONE = 2.5
"""Times of a single image's answer that a new image may have to wait while a queue stands. With
its own answer that makes 3.5 on average; what varies comes on top: 99 of 100 came within 20 times
(with 3.5 within 6.4 times; benchmarks/service_load.py, MobileNetV2, two busy cores)."""

SMOOTHED = 0.05
"""Weight of the latest answer in the means of `Admission`: answers come in batches, so that single
times between them say little."""


class Full(Exception):
    """There are more images than are answered in time: to be tried again later."""


@dataclass(frozen=True)
class Waiting:
    """An image in the queue.

    Attributes:
        pixels: float32 (size, size, 3).
        mapped: whether what speaks for the answer is asked for too.
        answer: will hold what `Batcher`'s function returns for it.
    """

    pixels: np.ndarray
    mapped: bool
    answer: Future = field(default_factory=Future)


class Admission:
    """Who comes in. Used from one thread.

    Up to `limits.waiting` images are taken, which is what a burst needs. A queue that stands is
    another matter: each new image would wait as long as all before it, for ever. There, as in
    "controlled delay" (Nichols & Jacobson 2012, CoDel; for servers Maurer 2015, "Fail at Scale",
    section "Preventing overload"), only those are taken that will not wait long; the others hear
    503 at once.

    Attributes:
        inside: images that were taken and are not answered yet.
        alone: seconds from a request of one image to its answer while there is no other.
        pace: seconds an image while there are others.
    """

    def __init__(self, limits: Limits, alone: float, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = limits.waiting, clock
        self.inside, self.alone, self.pace = 0, alone, alone
        self._requests = 0
        self._empty_at = self._answered_at = clock()

    @contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """Count images in, and out at the end.

        Raises:
            Full: there is no place for them, or they would wait for too long.
        """
        start = self._clock()
        if self.inside == 0:
            self._empty_at = self._answered_at = start
        by_itself = self.inside == 0 and images == 1
        if self.inside + images > self._most or self._too_slow(start, images):
            raise Full
        self.inside += images
        self._requests += 1
        request = self._requests
        try:
            yield
        finally:
            self.inside -= images
            now = self._clock()
            if by_itself and request == self._requests:
                self.alone += SMOOTHED * (now - start - self.alone)
            else:
                self.pace += SMOOTHED * ((now - self._answered_at) / images - self.pace)
            self._answered_at = now
            if self.inside == 0:
                self._empty_at = now

    def _too_slow(self, now: float, images: int) -> bool:
        standing = self.inside > 0 and now - self._empty_at > STANDING_SECONDS
        wait = (self.inside + images - 1) * self.pace
        return standing and wait > TIMES_ALONE * self.alone


class Batcher:
    """A thread that answers images in batches, whose sizes are powers of two.

    Each size of a batch has a plan of its own in most runtimes, which takes time and memory: so
    there are few sizes. Nothing is padded; of 13 images 8 are taken, then 4, then 1.

    Args:
        function: from float32 (n, size, size, 3), and for which of them a map is asked, to n
            answers.
        most: images in a batch.
        observe: is told the images and seconds of each batch, in that thread.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray, Sequence[bool]], Sequence[Any]],
        most: int,
        observe: Callable[[int, float], None],
    ):
        self._function, self._most, self._observe = function, most, observe
        self._queue: deque[Waiting] = deque()
        self._changed, self._stopped = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="tlkit-batches", daemon=True)
        self._thread.start()

    def submit(self, pixels: np.ndarray, mapped: bool = False) -> Future:
        """Queue an image; return what will hold its answer."""
        waiting = Waiting(pixels, mapped)
        with self._changed:
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def stop(self) -> None:
        """End the thread once the queue is empty."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while taken := self._next():
            # Who has gone meanwhile cancels; from here on that is too late.
            batch = [each for each in taken if each.answer.set_running_or_notify_cancel()]
            if not batch:
                continue
            start = time.perf_counter()
            try:
                mapped = [each.mapped for each in batch]
                answers = self._function(np.stack([each.pixels for each in batch]), mapped)
            except Exception as error:  # whatever a runtime raises is told to who has asked
                for each in batch:
                    each.answer.set_exception(error)
                continue
            self._observe(len(batch), time.perf_counter() - start)
            for each, answer in zip(batch, answers, strict=True):
                each.answer.set_result(answer)

    def _next(self) -> list[Waiting]:
        """Return the next batch; an empty one at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            size = size_of_batch(min(len(self._queue), self._most))
            return [self._queue.popleft() for _ in range(size)]


def size_of_batch(images: int) -> int:
    """Return the largest power of two that is no more than `images`; 0 of 0."""
    return 1 << (images.bit_length() - 1) if images else 0
