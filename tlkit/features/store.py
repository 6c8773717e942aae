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

from tlkit.backbones.sides import size_of, told
from tlkit.compute import engines
from tlkit.compute.compilers import as_list
from tlkit.compute.memory import halving
from tlkit.data.feed.examples import Batches, Examples
from tlkit.features.cache import (
    FeatureCache,
    entry_folder,
    fill,
    kept_digests,
    make_room,
)
from tlkit.features.cut import Cut, cut_of, prefix_to
from tlkit.features.rows import JointRows, Rows, side_by_side
from tlkit.planning.phases import Phase
from tlkit.progress import Progress

T = TypeVar("T")

FLOAT16_FROM_BYTES = 2**30
"""Bytes of float32 features, at all tensors of a cut, from which they are kept as float16: losses
move by less than 5e-3 (a test), and twice as many images stay in memory."""


class FeatureStore:
    """Computes features of a frozen model once, and keeps them on disk.

    Args:
        model: the delivered model; its layers below a cut must not change while this is in use.
        root: the folder of the feature cache.
        limit: bytes that the cache may hold.
        whole: all images for which features will be asked: what is missing is computed in one
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
        self._caches: dict[str, tuple[FeatureCache, ...]] = {}
        self._opened: dict[Path, FeatureCache] = {}
        self._identities: dict[int, dict[str, Any]] = {}
        self._functions: dict[tuple[int, ...], engines.Function] = {}
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
        return all(self._entries(cut) for cut in cuts)

    def rows(self, cuts: Sequence[Cut], part: Examples) -> Rows | JointRows:
        """Return the features of `part`, of images in `whole`, at the last of `cuts`.

        Args:
            cuts: each kept, for what is missing is computed for all of them at once. The last may
                be one that the cache has no room for: its features are held in memory.
        """
        self._choose(cuts)
        whole = self._whole
        self._halving(lambda size: self._fill(cuts, whole.batched(size)), whole.batch_size)
        if caches := self._entries(cuts[-1]):
            return side_by_side([cache.rows(part.digests) for cache in caches])
        return self._halving(
            lambda size: self._in_memory(cuts[-1], part.batched(size)), part.batch_size
        )

    def _fill(self, cuts: Sequence[Cut], whole: Examples) -> None:
        """Compute what is missing at those of `cuts` that are kept."""
        digests = whole.digests
        ahead, lacking, chosen = [], {}, set()
        for cut in cuts:
            for tensor, cache in zip(cut.tensors, self._entries(cut), strict=False):
                if missing := cache.missing(digests):
                    ahead.append(cut)
                    lacking[cache.path] = tensor, cache  # two cuts may share a tensor
                    chosen.update(missing)
        if lacking:
            tensors, caches = zip(*lacking.values(), strict=True)
            chosen = sorted(chosen)
            with self._progress.bar("prefix", f"to {_names(ahead)}", len(chosen)) as advance:
                features = _run(self._function(tensors), whole.batches(chosen), advance)
                fill(caches, [digests[i] for i in chosen], features)

    def _halving(self, call: Callable[[int], T], size: int, what: str = "features") -> T:
        return halving(call, size, what, functools.partial(self._progress.say, "prefix"))

    def function(self, cut: Cut) -> engines.Function:
        """Return the frozen part below `cut` as a function of a batch of images."""
        self._choose([cut])
        return self._function(cut.tensors)

    def _in_memory(self, cut: Cut, part: Examples) -> Rows | JointRows:
        with self._progress.bar("prefix", f"to {cut.name}", len(part)) as advance:
            images = part.batches(range(len(part)))
            batches = list(_run(self._function(cut.tensors), images, advance))
        shard, row = np.zeros(len(part), int), np.arange(len(part))
        columns = zip(*batches, strict=True)
        return side_by_side([Rows([np.concatenate(each)], shard, row) for each in columns])

    def _function(self, tensors: Sequence[keras.KerasTensor]) -> engines.Function:
        """Return what leads to all of `tensors`; built once, since each would be traced anew."""
        key = tuple(map(id, tensors))
        if key not in self._functions:
            network = prefix_to(self._model, tensors)
            self._functions[key] = engines.build(self.engine.name, network)
        return self._functions[key]

    def _choose(self, cuts: Sequence[Cut]) -> None:
        """Choose the engine, if none is yet: one whose features are there, or by a trial."""
        if self.engine is not None:
            return
        digests = set(self._whole.digests)
        for name in self._names:
            there = (kept_digests(folder) for folder in self._folders(cuts[0], name))
            if all(2 * len(digests & kept) >= len(digests) for kept in there):
                self.engine = engines.Engine(name)
                break
        else:
            self.engine = self._tried(cuts)
        self._note(self.engine)
        self._progress.say("prefix", f"to {_names(cuts)}, frozen; {self.engine.describe()}")

    def _tried(self, cuts: Sequence[Cut]) -> engines.Engine:
        """Return the engine that wins a trial on the network that gives the features at `cuts`."""
        tensors = list({id(tensor): tensor for cut in cuts for tensor in cut.tensors}.values())
        network, images = prefix_to(self._model, tensors), len(set(self._whole.digests))

        def trial(size: int) -> tuple[engines.Engine, engines.Function]:
            sample, *_ = next(iter(self._whole.batches(range(size))))
            return engines.choose(network, self._names, images, np.asarray(sample), self._progress)

        most = min(engines.TRIAL, len(self._whole))
        engine, self._functions[tuple(map(id, tensors))] = self._halving(trial, most, "engines")
        return engine

    def _key(self, tensor: keras.KerasTensor, engine: str) -> dict[str, Any]:
        """Return what features at `tensor` depend on but images and number type."""
        if id(tensor) not in self._identities:
            # Named, or it would be numbered by the models made before, and the number is in it.
            prefix = prefix_to(self._model, [tensor], "prefix")
            self._identities[id(tensor)] = _identity(prefix)
        return {**self._identities[id(tensor)], "engine": engines.release(engine)}

    def _folders(self, cut: Cut, engine: str) -> list[Path]:
        """Return the entries of the tensors of `cut`."""
        dtype = kept_type(cut, len(self._whole))
        return [entry_folder(self._root, self._key(t, engine), dtype) for t in cut.tensors]

    def _entries(self, cut: Cut) -> tuple[FeatureCache, ...]:
        """Return the opened entries of the tensors of `cut`; none where they cannot be kept."""
        if cut.name not in self._caches:
            self._caches[cut.name] = self._open(cut)
        return self._caches[cut.name]

    def _open(self, cut: Cut) -> tuple[FeatureCache, ...]:
        engine, folders = self.engine.name, self._folders(cut, self.engine.name)
        if not make_room(self._root, kept_bytes(cut, len(self._whole)), self._limit, folders):
            self._progress.say("cache", f"features at {cut.name} do not fit: computed each epoch")
            return ()
        dtype, several = kept_type(cut, len(self._whole)), len(cut.tensors) > 1
        for i, (folder, tensor) in enumerate(zip(folders, cut.tensors, strict=True), start=1):
            key, name = self._key(tensor, engine), cut.name
            if several:
                name += f" ({i} of {len(cut.tensors)})"
            title = (
                f"{told(size_of(self._model.input_shape))} px to {name}, {dtype}, {key['engine']}"
            )
            if folder not in self._opened:
                cache = FeatureCache(self._root, key, tensor.shape[1:], dtype, title)
                self._opened[folder] = cache
                if cache.damaged:
                    text = f"{cache.damaged} damaged files removed, computed anew"
                    self._progress.say("cache", text)
        return tuple(self._opened[folder] for folder in folders)


def kept_type(cut: Cut, images: int) -> str:
    """Return the number type in which the features of so many images are kept at `cut`."""
    return "float16" if _numbers(cut, images) * 4 > FLOAT16_FROM_BYTES else "float32"


def kept_bytes(cut: Cut, images: int) -> int:
    """Return the bytes of the kept features of so many images, at all tensors of `cut`."""
    return np.dtype(kept_type(cut, images)).itemsize * _numbers(cut, images)


def _numbers(cut: Cut, images: int) -> int:
    return images * sum(math.prod(tensor.shape[1:]) for tensor in cut.tensors)


def _identity(prefix: keras.Model) -> dict[str, Any]:
    """Return all that features depend on but images and engine: graph, weights, versions."""
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
    return " and ".join(dict.fromkeys(cut.name for cut in cuts))


def _run(
    function: engines.Function, batches: Batches, advance: Callable
) -> Iterator[list[np.ndarray]]:
    # Engines run in inference mode: no dropout, no stochastic depth and no batch statistics,
    # whatever the layers' `trainable` says.
    for images, _ in batches:
        features = as_list(function(np.asarray(images)))
        advance(len(features[0]))
        yield features
