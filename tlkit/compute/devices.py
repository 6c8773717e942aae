"""What fitted phases compute on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Devices:
    """Devices of a run.

    Attributes:
        kind: `cpu` or `gpu`.
        devices: names of those that share a batch.
        scope: context in which models that are fitted, and their weights, have to be made.
        share: lets a model that was made there, and is yet to be compiled, share the batches that
            it is fitted on, where the scope alone does not; returns it.
    """

    kind: str = "cpu"
    devices: tuple[str, ...] = ("cpu",)
    scope: Callable[[], AbstractContextManager] = contextlib.nullcontext
    share: Callable[[keras.Model], keras.Model] = lambda model: model

    @property
    def label(self) -> str:
        """The devices, for people."""
        return " + ".join(self.devices)

    @property
    def jit_compile(self) -> bool | str:
        """Whether XLA compiles the training step.

        It makes depthwise convolutions many times slower on a CPU; the JAX backend knows nothing
        else.
        """
        return "auto" if keras.backend.backend() == "jax" or self.kind != "cpu" else False


ONE_CPU = Devices()


class Replicas(keras.distribution.DataParallel):
    """The same weights on several devices, which share each batch within the compiled step.

    Keras would share it before, all batches like the first one of an epoch, and fail at a last one
    whose length is no multiple of the devices. Steps are compiled for each length anyhow: here all
    devices are given the whole batch, and where it does not divide they compute all of it.
    """

    def get_data_layout(self, data_shape: Sequence[int]) -> keras.distribution.TensorLayout:
        """Return the layout of a batch before the step: whole on every device."""
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)

    def split(self, tensor: Any) -> Any:
        """Let each device compute its share of a batch, in a traced step."""
        if tensor is None or tensor.shape[0] % self.num_model_replicas:
            return tensor
        return keras.distribution.distribute_tensor(tensor, super().get_data_layout(tensor.shape))


def data_parallel(kind: str, devices: Sequence[str]) -> Devices:
    """Return several devices of the JAX backend that share each batch.

    Losses, gradients and batch statistics are those of the whole batch, as on one device.
    """
    replicas = Replicas(devices=list(devices), auto_shard_dataset=False)

    def splitting(step: Callable) -> Callable:
        return lambda state, data: step(state, keras.tree.map_structure(replicas.split, data))

    def share(model: keras.Model) -> keras.Model:
        model.train_step, model.test_step = splitting(model.train_step), splitting(model.test_step)
        # Metrics are made at the first batch; elsewhere than the weights, steps are compiled twice.
        model.fit = replicas.scope()(model.fit)
        model.train_on_batch = replicas.scope()(model.train_on_batch)
        return model

    return Devices(kind, tuple(devices), replicas.scope, share)


def precision_of(model: keras.Model) -> str:
    """Return the type that the backbone computes in: the lowest of its layers' types."""
    types = {layer.compute_dtype for layer in model.layers}
    return next((name for name in ("float16", "bfloat16") if name in types), "float32")
