"""Tasks whose answer is a map of classes, of the size of the image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from tlkit.tasks.task import Task


class MapTask(Task):
    """A task that names the class of each pixel.

    In the place of a row of the model's output `decode`, `label_map`, `overlay` and the evaluator
    also take a map of the original's size that was put together of tiles: class numbers uint8
    (height, width).
    """

    maps: ClassVar[bool] = True

    @abstractmethod
    def label_map(self, row: Any, height: Any, width: Any) -> Any:
        """Return a row of the model's output as a map of class numbers uint8 (height, width), in
        graph code of TensorFlow, which exports use too.

        Args:
            height, width: of the upright image, in pixels.
        """

    @abstractmethod
    def spread(self, row: Any, height: int, width: int) -> Any:
        """Return what `label_map` takes the largest of: float32 (height, width, classes)."""
