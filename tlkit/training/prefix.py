"""Below the cut: the frozen part as a function of its own, and the features that it gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from tlkit.backbones.graph import crossing, sources
from tlkit.freezing import FreezePlan, block_names
from tlkit.heads.classification import POOLED
from tlkit.progress import Progress

Cut = keras.KerasTensor | list[keras.KerasTensor]
"""What crosses a boundary: one tensor, or a list where a block reads those before the last too."""


def cut_tensor(model: keras.Model, plan: FreezePlan) -> Cut | None:
    """Return what crosses from frozen to trained; None if nothing is frozen first."""
    if plan.all_frozen:
        return model.get_layer(POOLED).output
    if plan.cut is None:
        return None
    tensors = crossing(model, _below(model, plan))
    return tensors[0] if len(tensors) == 1 else tensors


def _below(model: keras.Model, plan: FreezePlan) -> set[str]:
    """Return the operations below the plan's cut, those that are no layers of a block included."""
    blocks = block_names(plan.layers)
    frozen = blocks[: blocks.index(plan.cut) + 1]
    known = {layer.name: layer.block in frozen for layer in plan.layers}
    below: set[str] = set()
    for name, inputs in sources(model).items():
        if known.get(name, below.issuperset(inputs)):
            below.add(name)
    return below


def split_at(model: keras.Model, tensor: Cut | None) -> tuple[keras.Model | None, keras.Model]:
    """Return prefix and suffix; both share `model`'s layers and weights.

    The suffix is a model of its own even where there is no prefix, so that compiling it leaves
    the delivered model uncompiled and free of tlkit's schedule.
    """
    if tensor is None:
        return None, keras.Model(model.input, model.output)
    return keras.Model(model.input, tensor), keras.Model(tensor, model.output)


def feature_bytes(prefix: keras.Model, examples: int) -> int:
    """Return the size of float32 features of that many examples."""
    return 4 * examples * sum(math.prod(tensor.shape[1:]) for tensor in prefix.outputs)


Features = np.ndarray | list[np.ndarray]
"""float32 (examples, ...), or a list of them where several tensors cross the cut."""


def extract(
    prefix: keras.Model, batches: Iterable, examples: int, progress: Progress, what: str
) -> tuple[Features, np.ndarray]:
    """Compute features once.

    Returns:
        Features and class indices int32 (examples,).
    """
    features = [np.empty((examples, *t.shape[1:]), np.float32) for t in prefix.outputs]
    classes = np.empty(examples, np.int32)
    done = 0
    with progress.bar("prefix", f"{what} features", examples) as advance:
        for images, y in batches:
            # predict_on_batch runs in inference mode: no dropout, no stochastic depth and no batch
            # statistics, whatever the layers' `trainable` says.
            answer = prefix.predict_on_batch(np.asarray(images))
            part = slice(done, done + len(y))
            for kept, new in zip(features, keras.tree.flatten(answer), strict=True):
                kept[part] = new
            classes[part] = np.asarray(y)
            done += len(y)
            advance(len(y))
    return features[0] if len(features) == 1 else features, classes


class FeatureBatches(keras.utils.PyDataset):
    """Batches of kept features, in a new order in each epoch where `seed` is given."""

    def __init__(
        self, features: Features, classes: np.ndarray, batch_size: int, seed: int | None = None
    ):
        super().__init__()
        self._features, self._classes, self._size = features, classes, batch_size
        self._random = None if seed is None else np.random.default_rng(seed)
        self._order = np.arange(len(classes))
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._size)

    def __getitem__(self, index: int) -> tuple[Features, np.ndarray]:
        chosen = self._order[index * self._size : (index + 1) * self._size]
        features = keras.tree.map_structure(lambda kept: kept[chosen], self._features)
        return features, self._classes[chosen]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        if self._random is not None:
            self._random.shuffle(self._order)


def streamed(prefix: keras.Model, batches: Iterable) -> Iterator[tuple[Features, np.ndarray]]:
    """Yield (features, class indices) for ever, computed anew in each pass over `batches`."""
    while True:
        for images, y in batches:
            yield prefix.predict_on_batch(np.asarray(images)), np.asarray(y)
