"""Lays any functional or Sequential model out flat: its calls in order, nested models opened.

The calls are then made again, on copies of the layers and on another input: the model itself is
never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import keras

from tlkit.backbones.graph import ancestors
from tlkit.errors import BackboneError

INPUT = "image"
"""The name of the input; no operation may have it, nor those that a head may give its layers."""

HEAD_NAMES = ("head_", "predictions")


@dataclass(frozen=True)
class Ref:
    """An output of a call, in the place of the tensor."""

    call: str
    index: int = 0


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: the given model's own; not to be changed.
        args, kwargs: what it is called with; each tensor is a `Ref`.
        shapes: of its outputs, at the given model's own input size.
    """

    operation: Any
    args: Any
    kwargs: Any
    shapes: tuple[tuple[int | None, ...], ...]

    @property
    def sources(self) -> list[str]:
        """Names of the calls whose outputs it takes."""
        return [x.call for x in keras.tree.flatten([self.args, self.kwargs]) if _is_ref(x)]


class Flattened:
    """The calls of a model, flat.

    Attributes:
        calls: each call by a name of its own, in an order in which they can be made: the name of
            the layer, with that of the model around it in front where two are alike.
        ends: where each layer's or nested model's output comes from, by its name in the model.

    Raises:
        BackboneError: a model in it cannot be opened.
    """

    def __init__(self, model: keras.Model, taken: Collection[str] = ()):
        self.calls: dict[str, Call] = {}
        self.ends: dict[str, Ref] = {}
        self._taken = {INPUT, *taken}
        self._open(model, [Ref(INPUT)], "backbone")

    @property
    def feeds(self) -> dict[str, list[str]]:
        """Return for each call the ones whose outputs it takes, the input in front."""
        return {INPUT: [], **{name: call.sources for name, call in self.calls.items()}}

    def _open(self, model: keras.Model, given: Iterable[Ref], around: str) -> list[Ref]:
        graph = graph_of(model)
        refs = dict(zip(map(id, graph.inputs), given, strict=True))
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input:
                    made = self._call(node, refs, around)
                    refs |= zip(map(id, node.outputs), made, strict=True)
        return [refs[id(tensor)] for tensor in graph.outputs]

    def _call(self, node: Any, refs: dict[int, Ref], around: str) -> list[Ref]:
        operation = node.operation
        if isinstance(operation, keras.Model):
            inputs = [refs[id(tensor)] for tensor in node.input_tensors]
            made = self._open(operation, inputs, operation.name)
        else:
            args, kwargs = keras.tree.map_structure(
                lambda x: refs[id(x)] if isinstance(x, keras.KerasTensor) else x,
                (tuple(node.arguments.args), dict(node.arguments.kwargs)),
            )
            name = self._free(operation.name, around)
            shapes = tuple(tuple(tensor.shape) for tensor in node.outputs)
            self.calls[name] = Call(operation, args, kwargs, shapes)
            made = [Ref(name, i) for i in range(len(node.outputs))]
        self.ends[operation.name] = made[-1]
        return made

    def _free(self, name: str, around: str) -> str:
        chosen = f"{around}_{name}" if name in self._taken or name.startswith(HEAD_NAMES) else name
        number = 2
        while chosen in self._taken:
            chosen = f"{around}_{name}_{number}"
            number += 1
        self._taken.add(chosen)
        return chosen

    def rebuild(self, entry: keras.KerasTensor, end: Ref) -> keras.KerasTensor:
        """Make the calls that lead from `entry`, (batch, size, size, 3), to `end` once more.

        The layers are copies with the same weights, in the number type of Keras's policy where
        theirs is float32.

        Raises:
            BackboneError: a layer is not Keras's own, shares weights between several calls, or
                does not take what it would get.
        """
        wanted = ancestors(self.feeds, end.call)
        chosen = {name: call for name, call in self.calls.items() if name in wanted}
        _check(chosen)
        made = {INPUT: [entry]}
        for name, call in chosen.items():
            args, kwargs = keras.tree.map_structure(
                lambda x: made[x.call][x.index] if _is_ref(x) else x, (call.args, call.kwargs)
            )
            made[name] = keras.tree.flatten(_made(call.operation, name, args, kwargs))
        return made[end.call][end.index]


def graph_of(model: keras.Model) -> keras.Model:
    """Return `model` as a functional one.

    Raises:
        BackboneError: it is a subclass with a `call` of its own: its layers form no graph.
    """
    own_call = any(
        "call" in vars(base)
        for base in type(model).__mro__
        if not base.__module__.startswith(("keras.", "tensorflow.", "torch."))
    )
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if own_call or not isinstance(graph, keras.Function):
        raise BackboneError(
            f"{model.name!r} is a subclassed model, its layers form no graph. Allowed: functional "
            f"and Sequential models. Received: {type(model).__name__}"
        )
    return graph


def _is_ref(value: Any) -> bool:
    return isinstance(value, Ref)


def _check(chosen: dict[str, Call]) -> None:
    counts = Counter(id(call.operation) for call in chosen.values())
    for call in chosen.values():
        operation = call.operation
        shared = isinstance(operation, keras.layers.Layer) and bool(operation.weights)
        if shared and counts[id(operation)] > 1:
            raise BackboneError(
                f"layer {operation.name!r} is called {counts[id(operation)]} times with the same "
                "weights, so that the graph cannot be laid out flat. Allowed: one call a layer"
            )
        kind = type(operation)
        if not kind.__module__.startswith("keras.") or kind is keras.layers.Lambda:
            raise BackboneError(_foreign(operation.name, kind.__name__))
        if _holds_foreign(operation.get_config()):
            raise BackboneError(_foreign(operation.name, "a function or class"))


def _foreign(name: str, what: str) -> str:
    return (
        f"layer {name!r} is not built into Keras ({what}), so that the trained model would not "
        "load without your code. Allowed: Keras's own layers and functions"
    )


def _holds_foreign(config: Any) -> bool:
    """Tell whether a layer's config names a function or class that is not Keras's."""
    if isinstance(config, dict):
        module = config.get("module") if "class_name" in config else None
        foreign = isinstance(module, str) and module.partition(".")[0] != "keras"
        # {"value": (code, ...)}: how Keras writes a lambda given as an activation.
        code = set(config) == {"value"} and isinstance(config["value"], tuple | list)
        return foreign or code or any(map(_holds_foreign, config.values()))
    return isinstance(config, list | tuple) and any(map(_holds_foreign, config))


def _made(operation: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Return the output of a copy of `operation`, which is called `name`."""
    is_layer = isinstance(operation, keras.layers.Layer)
    config = {**operation.get_config(), "name": name}
    if is_layer:
        config["trainable"] = True
        if operation.dtype_policy.name == "float32":
            config["dtype"] = keras.config.dtype_policy().name
    try:
        copy = type(operation).from_config(config)
        made = copy(*args, **kwargs)
        if is_layer and operation.built:
            copy.set_weights(operation.get_weights())
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"layer {operation.name!r} cannot be built again: {reason}") from error
    if isinstance(copy, keras.layers.Normalization):
        copy.finalize_state()  # it computes with values derived from its weights
    return made
