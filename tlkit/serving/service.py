"""Images in, answers out: decoding, admission and batches of one served model."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from tlkit.compute.cores import CORES
from tlkit.export.savedmodel import signature_outputs
from tlkit.serving.batching import Admission, Batcher
from tlkit.serving.images import Decoder, Ready, Unusable
from tlkit.serving.limits import Limits
from tlkit.serving.measures import Measures
from tlkit.serving.model import Answer, Served
from tlkit.serving.rest import Asked, Refused
from tlkit.serving.rest_answer import write

T = TypeVar("T")
Answered = tuple[Ready, Answer]


class Service:
    """One served model with all that answers images by it. Methods are for the event loop's thread.

    Args:
        alone: seconds of the answer to a single image, to begin with.

    Attributes:
        ready: whether new requests are welcome; False once it is being stopped.
    """

    def __init__(self, served: Served, limits: Limits, alone: float):
        self.served, self.limits = served, limits
        self.admission = Admission(limits, alone)
        self.measures = Measures(lambda: self.admission.inside)
        self.decoder = Decoder(served.size, served.rendering, limits)
        self.batcher = Batcher(served.answers, limits.batch, self._computed)
        self.ready = True
        self._threads = ThreadPoolExecutor(CORES, "tlkit-images")

    def close(self) -> None:
        """End all threads, once what they have is done."""
        self._threads.shutdown()
        self.batcher.stop()

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what takes long beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(work, *arguments))

    async def answers(
        self, makers: Sequence[Callable[[], Ready]], mapped: bool = False
    ) -> list[Answered | Unusable]:
        """Answer the images of a request.

        Args:
            makers: each makes an image ready; called in other threads.
            mapped: whether a map of what speaks for each answer is asked for.

        Raises:
            Full: there is no place for them now.
        """
        with self.admission.admitted(len(makers)):
            return await asyncio.gather(*(self._one(maker, mapped) for maker in makers))

    async def _one(self, maker: Callable[[], Ready], mapped: bool) -> Answered | Unusable:
        try:
            ready = await self.in_thread(maker)
        except Unusable as error:
            self.measures.images.labels("unusable").inc()
            return error
        answer = await asyncio.wrap_future(self.batcher.submit(ready.pixels, mapped))
        self.measures.images.labels("answered").inc()
        return ready, answer

    async def rest(self, asked: Asked) -> bytes:
        """Answer a request in TensorFlow Serving's form.

        Raises:
            Full: as `answers`.
            Refused: an image cannot be used, or the answer would be too large.
        """
        if len(asked.tensor) > self.limits.images:
            raise Refused(
                f"too many images in a request, at most {self.limits.images} are allowed. "
                f"Received: {len(asked.tensor)}",
                413,
            )
        make = {
            "serving_default": self.decoder.encoded,
            "serve_pixels": self.decoder.pixels,
            "serve_resized": self.decoder.resized,
        }[asked.signature]
        found = await self.answers([functools.partial(make, image) for image in asked.tensor])
        for i, each in enumerate(found):
            if isinstance(each, Unusable):
                raise Refused(f"image {i}: {each}")
        return await self.in_thread(self._written, found, asked.rows)

    def outputs(self, found: Sequence[Answered]) -> dict[str, np.ndarray]:
        """Return what a signature of a SavedModel gives for these images, by name.

        Raises:
            Refused: it would be more numbers than the limits allow.
        """
        rows = np.stack([answer.row for _, answer in found])
        sizes = np.array([(ready.height, ready.width) for ready, _ in found], np.int32)
        if self.served.task.maps:
            numbers = rows.size + len(found) * int(sizes.max(axis=0).prod())
            if numbers > self.limits.values:
                raise Refused(
                    f"the answer would be {numbers:,} numbers, at most {self.limits.values:,} are "
                    "allowed: smaller or fewer images, or POST /predict?masks=true, which gives "
                    "PNG files",
                    413,
                )
        answers = signature_outputs(self.served.task, rows, sizes)
        return {name: np.asarray(values) for name, values in answers.items()}

    def _written(self, found: Sequence[Answered], rows: bool) -> bytes:
        return write(self.outputs(found), rows)

    def _computed(self, images: int, seconds: float) -> None:
        """Take note of a batch; called in the thread that computed it."""
        self.measures.batches.observe(images)
        self.measures.network.observe(seconds)
