"""The graph of a functional model: which operation feeds which, and what crosses a boundary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import keras


def calls(model: keras.Model) -> dict[str, tuple[list, list]]:
    """Return each operation's (inputs, outputs), by name in graph order.

    Keras has no public way from a tensor to the operation that made it; `layer.input` of a nested
    model is its own input, not what it is called on.
    """
    found = {}
    for depth in model._nodes_by_depth.values():
        for node in depth:
            found[node.operation.name] = (node.input_tensors, node.outputs)
    return {op.name: found[op.name] for op in model.operations}


def sources(model: keras.Model) -> dict[str, list[str]]:
    """Return for each operation, by name in graph order, the ones whose outputs it takes."""
    nodes = calls(model)
    maker = {id(tensor): name for name, (_, outputs) in nodes.items() for tensor in outputs}
    return {
        name: [maker[id(tensor)] for tensor in inputs if id(tensor) in maker]
        for name, (inputs, _) in nodes.items()
    }


def ancestors(feeds: dict[str, list[str]], end: str) -> set[str]:
    """Return the operations on whose output `end` depends, and `end` itself."""
    found, waiting = set(), [end]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += feeds[name]
    return found


def last_narrow(feeds: dict[str, list[str]], names: Collection[str]) -> int:
    """Return how many of `names`, in graph order, lie above the last single tensor to the rest."""
    names = list(names)
    place = {name: i for i, name in enumerate(names)}
    last_use = {}
    for name in names:
        for source in feeds[name]:
            last_use[source] = place[name]
    best = 0
    for i, _ in enumerate(names[:-1]):
        if sum(last_use.get(name, -1) > i for name in names[: i + 1]) == 1:
            best = i + 1
    return best


def narrow_cuts(feeds: dict[str, list[str]], end: str) -> list[str]:
    """Return, in graph order, the operations behind which nothing but their output goes on.

    Args:
        feeds: as `sources` gives it, the input included.
        end: the operation whose output is wanted; the last cut.
    """
    own = ancestors(feeds, end)
    names = [name for name in feeds if name in own]
    waiting = Counter(source for name in names for source in set(feeds[name]))
    waiting[end] += 1
    open_, cuts = set(), []
    for name in names:
        for source in set(feeds[name]):
            waiting[source] -= 1
            if not waiting[source]:
                open_.discard(source)
        open_.add(name)
        if open_ == {name}:
            cuts.append(name)
    return cuts


def crossing(model: keras.Model, inside: Collection[str]) -> list[keras.KerasTensor]:
    """Return the tensors, in graph order, that operations outside take from those `inside`."""
    tensors = {}
    nodes = calls(model)
    made = {id(t): t for name, (_, outputs) in nodes.items() if name in inside for t in outputs}
    for name, (inputs, _) in nodes.items():
        if name not in inside:
            tensors |= {id(t): made[id(t)] for t in inputs if id(t) in made}
    return [tensor for key, tensor in made.items() if key in tensors]
