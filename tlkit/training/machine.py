"""What fitted phases compute on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Machine:
    """Devices of a run.

    Attributes:
        kind: `cpu` or `gpu`.
        devices: names of those that share a batch.
        scope: context in which models that are fitted, and their weights, have to be made.
    """

    kind: str = "cpu"
    devices: tuple[str, ...] = ("cpu",)
    scope: Callable[[], AbstractContextManager] = contextlib.nullcontext

    @property
    def jit_compile(self) -> bool | str:
        """Whether XLA compiles the training step.

        It makes depthwise convolutions many times slower on a CPU; the JAX backend knows nothing
        else.
        """
        return "auto" if keras.backend.backend() == "jax" or self.kind != "cpu" else False


ONE_CPU = Machine()


def precision_of(model: keras.Model) -> str:
    """Return the type that the backbone computes in: the lowest of its layers' types."""
    types = {layer.compute_dtype for layer in model.layers}
    return next((name for name in ("float16", "bfloat16") if name in types), "float32")
