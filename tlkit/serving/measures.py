"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """Counters and histograms of one service, in a registry of their own.

    Args:
        inside: tells how many images are decoded, waiting or computed.
    """

    def __init__(self, inside: Callable[[], int]):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own = {"registry": self._registry}
        self.requests = Counter("tlkit_requests", "Answered requests.", ["route", "code"], **own)
        self.seconds = Histogram(
            "tlkit_request_seconds", "Seconds of a request.", ["route"], buckets=SECONDS, **own
        )
        self.images = Counter("tlkit_images", "Images, by what became of them.", ["outcome"], **own)
        self.batches = Histogram("tlkit_batch_images", "Images in a batch.", buckets=IMAGES, **own)
        self.network = Histogram(
            "tlkit_batch_seconds", "Seconds of the network for a batch.", buckets=SECONDS, **own
        )
        gauge = Gauge("tlkit_images_inside", "Images decoded, waiting or computed now.", **own)
        gauge.set_function(inside)

    def written(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self._registry)

    def answered(self) -> int:
        """Return how many images were answered."""
        return int(self.images.labels("answered")._value.get())
