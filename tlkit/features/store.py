"""Below the cut: the frozen part as a function of its own, and the features that it gives."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from tlkit.compute import engines
from tlkit.compute.compilers import as_list
from tlkit.compute.memory import halving
from tlkit.data.feed.examples import Batches, Examples
from tlkit.features.cache import (
    FeatureCache,
    Rows,
    entry_folder,
    fill,
    kept_digests,
    make_room,
)
from tlkit.features.cut import Cut, cut_of
from tlkit.planning.phases import Phase
from tlkit.progress import Progress

T = TypeVar("T")

HALF_FROM = 2**30
"""Bytes of float32 features from which they are kept as float16: losses move by less than 5e-3
(a test), and twice as many pictures stay in memory."""


class FeatureStore:
    """Computes features of a frozen model once, and keeps them on disk.

    Args:
        model: the delivered model; its layers below a cut must not change while this is in use.
        root: the folder of the feature cache.
        limit: bytes that the cache may hold.
        whole: all pictures for which features will be asked: what is missing is computed in one
            pass, since a pipeline for each part would take a second to start.
        names: the engines that may compute them, see `engines.candidates`.
        note: called with the engine once it is chosen, before it computes anything to keep.

    Attributes:
        engine: the one chosen, once for all cuts; None before the first features are asked for.
    """

    def __init__(
        self,
        model: keras.Model,
        root: Path,
        limit: int,
        whole: Examples,
        progress: Progress,
        names: tuple[str, ...] = (engines.KERAS,),
        note: Callable[[engines.Engine], None] = lambda engine: None,
    ):
        self._model, self._root, self._limit = model, root, limit
        self._whole, self._progress, self._names, self._note = whole, progress, names, note
        self._caches: dict[str, FeatureCache | None] = {}
        self._keys: dict[str, tuple[dict[str, Any], str]] = {}
        self._functions: dict[str, engines.Function] = {}
        self.engine: engines.Engine | None = None

    def cuts(self, phase: Phase, later: Sequence[Phase] = ()) -> list[Cut]:
        """Return where features are kept for `phase`, its own cut last; nothing: none are.

        The plan says for which phases they are to be kept; whether there is room on the disk is
        decided here, and room is made. A solved head needs its features at once, over and over:
        they are pooled, hence small, and held in memory where the disk has no room.

        Args:
            later: phases after it. Of the next one whose features are to be kept at another cut,
                that cut comes first, if there is room: both are computed in one pass.
        """
        if not phase.keeps_features:
            return []
        cut = cut_of(self._model, phase.freeze)
        ahead: list[Cut] = []
        for other in later:
            below = cut_of(self._model, other.freeze) if other.keeps_features else None
            if below is not None and below.name != cut.name:
                ahead = [below] if self.keeps(below, cut) else []
                break
        return [*ahead, cut] if phase.method == "solve" or self.keeps(cut) else []

    def keeps(self, *cuts: Cut) -> bool:
        """Tell whether the features at all `cuts` can be kept; makes room for them.

        If no engine is chosen yet, this tries them on the network that gives all these features.
        """
        self._choose(cuts)
        return all(self._cache(cut) is not None for cut in cuts)

    def rows(self, cuts: Sequence[Cut], part: Examples) -> Rows:
        """Return the features of `part`, of pictures in `whole`, at the last of `cuts`.

        Args:
            cuts: each kept, for what is missing is computed for all of them at once. The last may
                be one that the cache has no room for: its features are held in memory.
        """
        self._choose(cuts)
        whole = self._whole
        self._halving(lambda size: self._fill(cuts, whole.batched(size)), whole.batch_size)
        cache = self._cache(cuts[-1])
        if cache is not None:
            return cache.rows(part.digests)
        return self._halving(
            lambda size: self._in_memory(cuts[-1], part.batched(size)), part.batch_size
        )

    def _fill(self, cuts: Sequence[Cut], whole: Examples) -> None:
        """Compute what is missing at those of `cuts` that are kept."""
        digests = whole.digests
        lacking = [
            (cut, cache, missing)
            for cut in cuts
            if (cache := self._cache(cut)) is not None and (missing := cache.missing(digests))
        ]
        if lacking:
            ahead, caches, missing = zip(*lacking, strict=True)
            chosen = sorted(set().union(*missing))
            with self._progress.bar("prefix", f"to {_names(ahead)}", len(chosen)) as advance:
                features = _run(self._function(ahead), whole.pictures(chosen), advance)
                fill(caches, [digests[i] for i in chosen], features)

    def _halving(self, call: Callable[[int], T], size: int, what: str = "features") -> T:
        return halving(call, size, what, functools.partial(self._progress.say, "prefix"))

    def function(self, cut: Cut) -> engines.Function:
        """Return the frozen part below `cut` as a function of a batch of pictures."""
        if isinstance(cut.tensor, list):
            return keras.Model(self._model.input, cut.tensor).predict_on_batch
        self._choose([cut])
        return self._function([cut])

    def _in_memory(self, cut: Cut, part: Examples) -> Rows:
        with self._progress.bar("prefix", f"to {cut.name}", len(part)) as advance:
            pictures = part.pictures(range(len(part)))
            features = [rows for (rows,) in _run(self._function([cut]), pictures, advance)]
        return Rows([np.concatenate(features)], np.zeros(len(part), int), np.arange(len(part)))

    def _function(self, cuts: Sequence[Cut]) -> engines.Function:
        """Return what leads to all of `cuts`; built once, since each would be traced anew."""
        names = _names(cuts)
        if names not in self._functions:
            self._functions[names] = engines.build(self.engine.name, self._network(cuts))
        return self._functions[names]

    def _network(self, cuts: Sequence[Cut]) -> keras.Model:
        tensors = [cut.tensor for cut in cuts]
        return keras.Model(self._model.input, tensors if len(tensors) > 1 else tensors[0])

    def _choose(self, cuts: Sequence[Cut]) -> None:
        """Choose the engine, if none is yet: one whose features are there, or by a trial."""
        cuts = [cut for cut in cuts if not isinstance(cut.tensor, list)]
        if self.engine is not None or not cuts:
            return
        digests = set(self._whole.digests)
        key, dtype = self._key(cuts[0])
        for name in self._names:
            there = entry_folder(self._root, {**key, "engine": engines.release(name)}, dtype)
            if 2 * len(digests.intersection(kept_digests(there))) >= len(digests):
                self.engine = engines.Engine(name)
                break
        else:

            def trial(size: int) -> tuple[engines.Engine, engines.Function]:
                sample, *_ = next(iter(self._whole.pictures(range(size))))
                network, sample = self._network(cuts), np.asarray(sample)
                return engines.choose(network, self._names, len(digests), sample, self._progress)

            most = min(engines.TRIAL, len(self._whole))
            self.engine, self._functions[_names(cuts)] = self._halving(trial, most, "engines")
        self._note(self.engine)
        self._progress.say("prefix", f"to {_names(cuts)}, frozen; {self.engine.describe()}")

    def _key(self, cut: Cut) -> tuple[dict[str, Any], str]:
        """Return what features at `cut` depend on but pictures and engine, and their type."""
        if cut.name not in self._keys:
            # Named, or it would be numbered by the models made before, and the number is in it.
            key = _identity(keras.Model(self._model.input, cut.tensor, name="prefix"))
            size = 4 * len(self._whole) * math.prod(cut.tensor.shape[1:])
            self._keys[cut.name] = key, "float16" if size > HALF_FROM else "float32"
        return self._keys[cut.name]

    def _cache(self, cut: Cut) -> FeatureCache | None:
        if cut.name not in self._caches:
            self._caches[cut.name] = self._open(cut)
        return self._caches[cut.name]

    def _open(self, cut: Cut) -> FeatureCache | None:
        if isinstance(cut.tensor, list):
            what = f"{len(cut.tensor)} tensors cross behind {cut.name}"
            self._progress.say("cache", f"{what}: features computed each epoch, by keras")
            return None
        key, dtype = self._key(cut)
        key = {**key, "engine": engines.release(self.engine.name)}
        shape = cut.tensor.shape[1:]
        needed = np.dtype(dtype).itemsize * len(self._whole) * math.prod(shape)
        entry = entry_folder(self._root, key, dtype)
        if not make_room(self._root, needed, self._limit, entry):
            self._progress.say("cache", f"features at {cut.name} do not fit: computed each epoch")
            return None
        title = f"{self._model.input_shape[1]} px to {cut.name}, {dtype}, {key['engine']}"
        cache = FeatureCache(self._root, key, shape, dtype, title)
        if cache.damaged:
            self._progress.say("cache", f"{cache.damaged} damaged files removed, computed anew")
        return cache


def _identity(prefix: keras.Model) -> dict[str, Any]:
    """Return all that features depend on but pictures and engine: graph, weights, versions."""
    weights = hashlib.blake2b(digest_size=16)
    for array in prefix.get_weights():
        weights.update(np.ascontiguousarray(array))
    graph = hashlib.blake2b(prefix.to_json().encode(), digest_size=16)
    return {
        "graph": graph.hexdigest(),
        "weights": weights.hexdigest(),
        "backend": keras.backend.backend(),
        "versions": {name: metadata.version(name) for name in ("tlkit", "keras", "tensorflow")},
    }


def _names(cuts: Iterable[Cut]) -> str:
    return " and ".join(cut.name for cut in cuts)


def _run(
    function: engines.Function, batches: Batches, advance: Callable
) -> Iterator[list[np.ndarray]]:
    # Engines run in inference mode: no dropout, no stochastic depth and no batch statistics,
    # whatever the layers' `trainable` says.
    for images, _ in batches:
        features = as_list(function(np.asarray(images)))
        advance(len(features[0]))
        yield features
