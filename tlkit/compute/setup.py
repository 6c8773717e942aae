"""Where a run computes: device, precision, seed; set before the first tensor is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tlkit.compute.devices import Devices, data_parallel
from tlkit.compute.engines import check_engine
from tlkit.errors import SpecError
from tlkit.spec.run import RunSpec


def set_environment(spec: RunSpec) -> None:
    """Set device, seed and determinism as `spec` says; before TensorFlow makes its first tensor.

    Raises:
        SpecError: a device is asked for that is not there, or an engine that is not installed.
    """
    check_engine(spec.engine)
    _set_device(spec.device)
    keras.utils.set_random_seed(spec.seed)
    if spec.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def precision(spec: RunSpec) -> Iterator[None]:
    """Layers made inside compute as `spec.precision` says; Keras's own setting is put back."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy_of(spec))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def policy_of(spec: RunSpec) -> str:
    """Return the name of Keras's dtype policy for a spec, on the devices that are visible."""
    chosen = _by_device(spec.device) if spec.precision == "auto" else spec.precision
    return chosen if chosen == "float32" else f"mixed_{chosen}"


def _by_device(device: str) -> str:
    """Return the quickest safe precision: halves only where a GPU has units for them.

    bfloat16 keeps float32's range and needs no scaling of the loss, so it comes first.
    """
    capability = _capability(device)
    if capability >= (8, 0):
        return "bfloat16"
    return "float16" if capability >= (7, 0) else "float32"


def _capability(device: str) -> tuple[int, int]:
    """Return the CUDA compute capability of the weakest GPU in use; (0, 0): there is none."""
    if keras.backend.backend() == "jax":
        found = [getattr(each, "compute_capability", "0") for each in _jax_devices(device)]
        pairs = [(*map(int, text.split(".")), 0)[:2] for text in found]
        return min(pairs, default=(0, 0))
    if keras.backend.backend() != "tensorflow":
        return (0, 0)
    details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
    return min((each.get("compute_capability", (0, 0)) for each in details), default=(0, 0))


def _set_device(device: str) -> None:
    if device == "auto":
        return
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # Where arrays are made that belong to no model.
        jax.config.update("jax_default_device", _jax_devices(device)[0])
        return
    if backend != "tensorflow":
        raise SpecError(
            f"device: on the {backend} backend there is no choice. Allowed: auto. "
            f"Received: {device}"
        )
    gpus = tf.config.list_physical_devices("GPU")
    kind, _, which = device.partition(":")
    numbers = _numbers(which, len(gpus))
    if kind == "gpu":
        _check_there(device, numbers, len(gpus), "TensorFlow")
    try:
        tf.config.set_visible_devices([gpus[n] for n in numbers] if kind == "gpu" else [], "GPU")
        if kind == "cpu" and which:
            logical = [tf.config.LogicalDeviceConfiguration()] * (numbers[-1] + 1)
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        raise SpecError(
            f"device: {device} cannot be set any more, TensorFlow has already started on another; "
            "start a new process"
        ) from error


def _numbers(which: str, there: int) -> list[int]:
    """Return the numbers in `0,1` or `all`, at least one."""
    numbers = range(there) if which == "all" else sorted({int(n) for n in which.split(",") if n})
    return list(numbers) or [0]


def _check_there(device: str, numbers: list[int], there: int, library: str) -> None:
    kind = device.partition(":")[0]
    if numbers[-1] >= there:
        numbered = "".join(f", gpu:{i}" for i in range(there if kind == "gpu" else 0))
        raise SpecError(
            f"device: this machine has {there} {kind.upper()}s that {library} can see. "
            f"Allowed: auto, cpu{numbered}. Received: {device}"
        )


def _jax_devices(device: str) -> list[Any]:
    """Return the `jax.Device`s that `device` stands for; `auto`: the one where JAX makes arrays.

    Raises:
        SpecError: one is not there.
    """
    import jax

    if device == "auto":
        return list(jax.numpy.zeros(()).devices())
    kind, _, which = device.partition(":")
    try:
        there = jax.devices(kind)
    except RuntimeError:  # it has no support for this kind
        there = []
    numbers = _numbers(which, len(there))
    _check_there(device, numbers, len(there), "JAX")
    return [there[n] for n in numbers]


def jax_names(device: str) -> list[str]:
    """Return what `_jax_devices` does, as `cpu:0`."""
    return [f"{each.platform}:{each.id}" for each in _jax_devices(device)]


def machine(spec: RunSpec) -> Devices:
    """Return the devices of a run; after `set_environment`.

    Several share each batch: through `tf.distribute.MirroredStrategy`, or on the JAX backend
    through `keras.distribution.DataParallel`.
    """
    if keras.backend.backend() == "jax":
        names = jax_names(spec.device)
        kind = names[0].partition(":")[0]
        return data_parallel(kind, names) if len(names) > 1 else Devices(kind, tuple(names))
    kind, _, which = spec.device.partition(":")
    if kind == "cpu" and which:
        names = tuple(f"CPU:{n}" for n in which.split(","))
    else:
        names = tuple(f"GPU:{n}" for n in range(len(tf.config.get_visible_devices("GPU"))))
        names = names if which == "all" or "," in which else names[:1]
    if len(names) < 2:
        return Devices("gpu", names) if names else Devices()
    return Devices(kind, names, tf.distribute.MirroredStrategy(list(names)).scope)


def gpu_bytes(devices: Devices) -> int | None:
    """Return the memory that a step may take on the GPUs of a run, all of them; None: it has none.

    None as well where the library does not tell.
    """
    if devices.kind != "gpu":
        return None
    if keras.backend.backend() == "jax":
        import jax

        stats = [each.memory_stats() or {} for each in jax.devices("gpu")]
        found = [each["bytes_limit"] for each in stats if "bytes_limit" in each]
    else:
        # What TensorFlow has taken for itself; its public interface tells only what is in use.
        from tensorflow.python.client import device_lib

        there = device_lib.list_local_devices()
        found = [each.memory_limit for each in there if each.device_type == "GPU"]
    return len(devices.devices) * min(found) if found else None
