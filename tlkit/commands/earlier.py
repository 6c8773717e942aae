"""A run that starts from an earlier one (`init`): its weights, its split, the order of its classes.

Images that the earlier run validated or tested with must not be trained on now, and those it
trained on are no measure: by their content they stay in the parts that they were in.
"""

from __future__ import annotations

import keras
import numpy as np

from tlkit.data.split import Before
from tlkit.errors import RunFolderError
from tlkit.run import Run, open_run
from tlkit.spec.run import RunSpec
from tlkit.tasks.pooled import PREDICTIONS
from tlkit.tasks.task import Task

UNITS = "units"
"""The layer of regression that turns standard deviations into the units of the targets."""


def before(spec: RunSpec) -> Before | None:
    """Return what a run keeps of the split of the run that `init` names; None: there is none.

    Raises:
        RunFolderError: it is none, or of a version that kept no hashes of its images.
    """
    if spec.init is None:
        return None
    run = _opened(spec)
    if run.members is None:
        raise RunFolderError(
            f"init {run.folder}: is of an earlier version, which kept no hashes of its images, so "
            "that its split cannot be kept. Allowed: a run of this version"
        )
    parts = {
        digest: part
        for part in ("train", "val", "test")
        for _, digest, _ in run.members[part]
        if digest
    }
    return Before(str(run.folder), parts, run.labels)


def _opened(spec: RunSpec) -> Run:
    try:
        return open_run(spec.init)
    except RunFolderError as error:
        raise RunFolderError(f"init: {error}") from error


def load_weights(spec: RunSpec, task: Task, model: keras.Model) -> None:
    """Put the weights of the run that `init` names into `model`; classes are matched by name.

    The output layer's columns of classes that are new stay as they are.

    Raises:
        RunFolderError: it has other layers, or its files are not its own.
    """
    run = _opened(spec)
    old = {layer.name: layer for layer in run.model.layers if layer.weights}
    new = {layer.name: layer for layer in model.layers if layer.weights}
    if old.keys() != new.keys():
        name = min(old.keys() ^ new.keys())
        where = "the earlier run" if name in old else "this one"
        raise _misfit(spec, f"the layer {name} is in {where} alone")
    for name, layer in new.items():
        values = old[name].get_weights()
        if name == PREDICTIONS:
            values = _matched(values, layer.get_weights(), run.labels, task.outputs)
            values = values and _in_units(values, run.model, model)
        if values is None or [v.shape for v in values] != [w.shape for w in layer.weights]:
            raise _misfit(spec, f"the layer {name} has weights of other shapes")
        layer.set_weights(values)


def _misfit(spec: RunSpec, why: str) -> RunFolderError:
    return RunFolderError(
        f"init {spec.init}: its weights do not fit: {why}. Allowed: a run of the same backbone and "
        "head"
    )


def _matched(
    old: list[np.ndarray], new: list[np.ndarray], names: tuple[str, ...], outputs: tuple[str, ...]
) -> list[np.ndarray] | None:
    """Return the weights of the output layer: columns by name, `new` where a name is new.

    None: the layer has no column for each name, and there are other names.
    """
    if names == outputs:
        return old
    by_name = zip(old, new, strict=True)
    if any(a.shape[-1] != len(names) or b.shape[-1] != len(outputs) for a, b in by_name):
        return None
    merged = [array.copy() for array in new]
    for at, name in enumerate(outputs):
        if name in names:
            for array, own in zip(merged, old, strict=True):
                array[..., at] = own[..., names.index(name)]
    return merged


def _in_units(values: list[np.ndarray], old: keras.Model, new: keras.Model) -> list[np.ndarray]:
    """Return the weights for targets of another mean and deviation, so that the answers stay."""
    layers = [[x for x in model.layers if x.name == UNITS] for model in (old, new)]
    if not all(layers):
        return values
    (scale, mean), (own_scale, own_mean) = (
        (np.asarray(layer.scale), np.asarray(layer.offset)) for (layer,) in layers
    )
    kernel, bias = values
    return [kernel * scale / own_scale, (bias * scale + mean - own_mean) / own_scale]
