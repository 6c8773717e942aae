"""What the graph of a stranger's SavedModel may do, looked through before TensorFlow loads it.

An allowlist of what tlkit's own exports hold would refuse those of a user's own model, and of other
versions of TensorFlow. TensorFlow's registry says of each operation whether it has a state or an
effect outside of the graph: those few that exports need are listed, all others of them are refused.
What only computes is allowed, but for what takes a file, an address or foreign code all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as Proto
from tensorflow.python.framework import op_def_registry

from tlkit.errors import ExportError, printable

LARGEST = 256 << 20
"""Bytes that a graph may have; those that tlkit writes have some 10 MB, weights not counted."""

GRAPH, OTHER_FORMS = "saved_model.pb", ("saved_model.cpb", "saved_model.pbtxt")
"""TensorFlow reads the other forms as well; tlkit writes none of them."""

HARMLESS = frozenset(
    (
        *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp"),
        "DisableCopyOnRead",
        *("ResourceGather", "PartitionedCall", "StatefulPartitionedCall"),
        *("While", "If", "Case", "Assert", "CheckNumerics"),
        *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal"),
    )
)
"""Operations with a state that reaches no further than the loaded model."""

SAVER = frozenset(("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"))
"""With these TensorFlow saves and restores variables. Every SavedModel has functions of them that
its loader does not call; they are allowed where nothing that can be called leads to them."""

OUTSIDE = re.compile(
    r"(?i:file|path|url|address|dataset|iterator|py_?func|proto|remote|debug|memory_region"
    r"|descriptor_source|checkpoint|ckpt)|Xla|(?<!OU)TPU|Tpu|Rpc|^Abort$"
)
"""What operations that reach outside bear in their own name or those of inputs and attributes (but
for `OUTPUT`); and the one that ends the process."""


def check_graph(path: Path) -> None:
    """Check that the SavedModel at `path` only computes.

    Raises:
        ExportError: it holds an operation that may reach outside of the model (the message names
            it), refers to files of its own, or is none of the form that tlkit writes.
        OSError: it cannot be read.
    """
    file = path / GRAPH
    for other in OTHER_FORMS:
        if (path / other).exists():
            raise ExportError(f"export {path}: {other} is not read. Allowed: {GRAPH} alone")
    if file.stat().st_size > LARGEST:
        raise ExportError(
            f"export {file}: too large for a graph. Allowed: {LARGEST >> 20} MiB. "
            f"Received: {file.stat().st_size >> 20} MiB"
        )
    saved = Proto()
    try:
        saved.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ExportError(f"export {file}: is damaged: {error}") from error
    graphs = list(saved.meta_graphs)
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        # Without its objects, TensorFlow would run what the graph names as its initialiser.
        raise ExportError(f"export {file}: is not one graph with objects, as TensorFlow 2 saves it")
    (graph,) = graphs
    kinds = {node.WhichOneof("kind") for node in graph.object_graph_def.nodes}
    if graph.asset_file_def or "asset" in kinds:
        raise ExportError(f"export {file}: refers to files of its own (assets). Allowed: none")
    for name, where, saver_allowed in _operations(graph):
        if not (_computes(name) or (saver_allowed and name in SAVER)):
            raise ExportError(
                f"export {file}: is not loaded, since the operation {printable(name)} (in "
                f"{printable(where)}) may read or write files or run foreign code. Allowed: "
                "operations that only compute"
            )


def _operations(graph: MetaGraphDef) -> Iterator[tuple[str, str, bool]]:
    """Yield each operation, where it stands, and whether it is beyond what can be called."""
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    objects = graph.object_graph_def
    called, left = set(), list(objects.concrete_functions)
    for node in objects.nodes:
        left += node.function.concrete_functions
        left.append(node.bare_concrete_function.concrete_function_name)
    while left:
        name = left.pop()
        if name in functions and name not in called:
            called.add(name)
            left += _refers(functions[name].node_def)
    gradients = {x.function_name: x.gradient_func for x in graph.graph_def.library.gradient}
    parts = [("the graph", graph.graph_def.node, True)]
    parts += [(name, f.node_def, name not in called) for name, f in functions.items()]
    for where, nodes, saver_allowed in parts:
        for node in nodes:
            if node.op not in functions and node.op not in gradients:
                yield node.op, where, saver_allowed


def _refers(nodes: Iterable[NodeDef]) -> list[str]:
    """Return the names of what may be functions that these nodes call."""
    names = [node.op for node in nodes]
    for node in nodes:
        for value in node.attr.values():
            names += [f.name for f in (value.func, *value.list.func) if f.name]
            # Gradients of one's own are named by an attribute that is a string.
            names.append(value.s.decode("utf-8", "replace"))
    return names


def _computes(name: str) -> bool:
    """Tell whether an operation does nothing but compute on what it is given."""
    if name in HARMLESS:
        return True
    about = op_def_registry.get(name)
    if about is None or about.is_stateful:
        return False
    arguments: list[Message] = [*about.input_arg, *about.attr]
    return not any(OUTSIDE.search(text) for text in (name, *(x.name for x in arguments)))
