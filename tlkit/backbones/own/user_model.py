"""A model of the user's own in the place of a catalog row: a file, a function or an object."""

from __future__ import annotations

import contextlib
import importlib
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras

from tlkit.backbones.blocks import assign_blocks, find_row, layer_infos
from tlkit.backbones.build import Built, preprocess
from tlkit.backbones.catalog import MODEL
from tlkit.backbones.graph import ancestors, narrow_cuts, sources
from tlkit.backbones.own.flatten import INPUT, Flattened, Ref, graph_of
from tlkit.backbones.own.single_tensor import narrow_blocks
from tlkit.errors import BackboneError, did_you_mean

GLOBAL_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


@dataclass(frozen=True)
class UserModel:
    """A model of the user's own, opened.

    Attributes:
        name: as `backbone.name` says it; a file's path is absolute.
        model: never changed.
        size: side of its input in pixels.
    """

    name: str
    model: keras.Model
    size: int


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in a `BackboneError` which backbone it is about."""
    try:
        yield
    except BackboneError as error:
        raise BackboneError(f"backbone {name}: {error}") from error


def open_user_model(
    name: str, model: keras.Model | None = None, size: int | None = None
) -> UserModel:
    """Open a model of the user's own.

    Args:
        name: path of a `.keras` file, `module:function`, or `<model>`.
        model: the object that `<model>` stands for.
        size: side of its input in pixels, for a model that takes any.

    Raises:
        BackboneError: there is none, it needs code that Keras does not have, or it does not take
            images (batch, size, size, 3) of this size.
    """
    with _named(name):
        if name == MODEL and model is None:
            raise BackboneError(
                "stands for a model object that Python passed. Allowed: path/to/model.keras, "
                "module:function"
            )
        if name.endswith(".keras"):
            name, model = str(Path(name).resolve()), _load(Path(name))
        elif name != MODEL:
            model = _call(name)
        if isinstance(model, keras.Sequential) and not model.built:
            model = _built_copy(model, size)
        return UserModel(name, model, _size(graph_of(model), size))


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise BackboneError("no such file")
    if not zipfile.is_zipfile(path):
        raise BackboneError("is not a .keras file, or is damaged")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())
        if "Could not locate" in text:
            what = text.partition("Could not locate ")[2].partition(".")[0]
            text = f"needs code of its own: {what} is not built into Keras"
        elif "Lambda" in text or "lambda" in text:
            text = "holds a Lambda layer, which may run any code"
        else:
            text = f"cannot be loaded: {text[:300]}"
        raise BackboneError(f"{text}. Allowed: Keras's own layers and functions") from error


def _call(name: str) -> keras.Model:
    module, function = name.split(":")
    here = str(Path.cwd())
    sys.path.append(here)  # a console script does not look into the current folder
    try:
        found = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise BackboneError(
            f"no module named {error.name!r}. Allowed: one that Python finds from here, as in "
            "`import`"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found.get(function)):
        near = did_you_mean(function, [key for key, value in found.items() if callable(value)])
        raise BackboneError(f"module {module!r} has no function {function!r}.{near}")
    try:
        model = found[function]()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackboneError(f"the function failed: {reason}") from error
    if not isinstance(model, keras.Model):
        raise BackboneError(
            f"the function must return a keras.Model. Received: {type(model).__name__}"
        )
    return model


def _built_copy(model: keras.Sequential, size: int | None) -> keras.Sequential:
    """Return a copy of a Sequential that was never told its input's shape, for this size."""
    if size is None:
        raise BackboneError(_any_size())
    try:
        copy = keras.models.clone_model(model)
        copy.build((None, size, size, 3))
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"cannot be built for {size} pixels: {reason}") from error
    for old, new in zip(model.layers, copy.layers, strict=True):
        if old.weights:
            new.set_weights(old.get_weights())
    return copy


def _any_size() -> str:
    return "image size: the model does not fix its own. Allowed: --image-size N (image_size=N)"


def _size(model: keras.Model, asked: int | None) -> int:
    """Return the side of the input in pixels."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    sides = {side for side in shapes[0][1:3] if side is not None} if shapes else set()
    square = len(shapes) == 1 and len(shapes[0]) == 4 and len(sides) < 2
    if not square or shapes[0][3] not in (3, None):
        raise BackboneError(
            "takes no square colour images. Allowed: one input (batch, size, size, 3). "
            f"Received: {', '.join(map(str, shapes))}"
        )
    if not sides:
        if asked is None:
            raise BackboneError(_any_size())
        return asked
    (own,) = sides
    if asked not in (None, own):
        raise BackboneError(
            f"image size: the model takes {own} pixels a side. Allowed: {own}, or left out. "
            f"Received: {asked}"
        )
    return own


def build_user_model(
    given: UserModel, cut: str | None = None, preprocessing: str | None = None
) -> Built:
    """Build a copy of a given model up to its features, in one flat graph.

    Args:
        cut: name of the layer, or nested model, whose output becomes the features; None: the last
            one with a 4-dimensional output before global pooling.
        preprocessing: `tf`, `caffe`, `torch`, `lite`, or `none` or None: RGB 0-255 as it is.

    Returns:
        As for a row. Blocks are the row's where a catalog application is inside: what is in front
        of it belongs to its first block, what is behind it to blocks of `narrow_blocks`
        (`added_1` to `added_n`). Without an application, or with a branch beside it, all are
        those of `narrow_blocks` (`block_1` to `block_n`).

    Raises:
        BackboneError: there is no such layer, no feature map, or the graph cannot be laid out.
    """
    with _named(given.name):
        inputs = keras.Input((given.size, given.size, 3), name=INPUT)
        entry = preprocess(inputs, preprocessing or "none")
        front = list(sources(keras.Model(inputs, entry)))
        unrolled = Flattened(given.model, front)
        end = _end(unrolled, cut)
        features = unrolled.rebuild(entry, end)
        model = keras.Model(inputs, features)
        own = [name for name in sources(model) if name not in front]
        blocks = _blocks(given.model, unrolled, model, own)
        return Built(inputs, features, layer_infos(model, blocks))


def _end(unrolled: Flattened, cut: str | None) -> Ref:
    calls = unrolled.calls
    maps = [name for name, call in calls.items() if len(call.shapes[0]) == 4]
    if cut is None:
        return Ref(_last_map(unrolled, maps))
    end = Ref(cut) if cut in calls else unrolled.ends.get(cut)
    if end is None:
        names = dict.fromkeys([*unrolled.ends, *calls])
        raise BackboneError(
            f"cut: no layer is called {cut!r}.{did_you_mean(cut, names)} Allowed: a layer with a "
            f"4-dimensional output, such as {', '.join(maps[-5:]) or 'none here'}"
        )
    shape = calls[end.call].shapes[end.index]
    if len(shape) != 4:
        raise BackboneError(
            f"cut: the output of {cut!r} is no feature map. Allowed: a layer with a 4-dimensional "
            f"output, such as {', '.join(maps[-5:]) or 'none here'}. Received: {shape}"
        )
    return end


def _last_map(unrolled: Flattened, maps: list[str]) -> str:
    """Return the last call of `maps`, or the last in front of a global pooling on the way to it.

    Pooling that keeps its dimensions, as in MobileNet's own top, is followed by a classifier of
    1 x 1 convolutions: 4-dimensional, and no features.
    """
    if maps:
        feeds = unrolled.feeds
        for name in narrow_cuts(feeds, maps[-1]):
            if name != INPUT and isinstance(unrolled.calls[name].operation, GLOBAL_POOLING):
                before = ancestors(feeds, name) - {name}
                maps = [name for name in maps if name in before]
                break
    if not maps:
        raise BackboneError(
            "no layer has a 4-dimensional output (batch, height, width, channels), which the head "
            "is put on"
        )
    return maps[-1]


def _blocks(
    given: keras.Model, unrolled: Flattened, model: keras.Model, own: list[str]
) -> dict[str, str]:
    """Return the block of each operation of `own`, by name."""
    known = _row_blocks(given)
    operations = {name: id(unrolled.calls[name].operation) for name in own}
    blocks = {name: known[key] for name, key in operations.items() if key in known}
    if not blocks:
        return narrow_blocks(model, own, "block")
    stem = own[: own.index(next(iter(blocks)))]  # the user's own preprocessing
    blocks |= dict.fromkeys(stem, next(iter(blocks.values())))
    blocks |= narrow_blocks(model, [name for name in own if name not in blocks], "added")
    return blocks if _in_order(model, blocks) else narrow_blocks(model, own, "block")


def _in_order(model: keras.Model, blocks: dict[str, str]) -> bool:
    """Tell whether each block takes only from those before it; not so with a branch beside it."""
    order = list(dict.fromkeys(blocks[x.name] for x in model.layers if x.name in blocks))
    rank = {name: order.index(block) for name, block in blocks.items()}
    return all(
        rank.get(source, 0) <= rank[name]
        for name, feeds in sources(model).items()
        if name in rank
        for source in feeds
    )


def _row_blocks(model: keras.Model) -> dict[int, str]:
    """Return the block of each operation, by id, of the first catalog application in `model`."""
    graph = graph_of(model)
    row = find_row(graph)
    if row is not None:
        blocks = assign_blocks(row, graph)
        return {
            key: blocks[op.name]
            for op in graph.operations
            if op.name in blocks
            for key in _inner_ids(op)
        }
    for layer in graph.layers:
        if isinstance(layer, keras.Model) and (found := _row_blocks(layer)):
            return found
    return {}


def _inner_ids(operation: keras.Operation) -> list[int]:
    """Return the ids of all operations in `operation`: ConvNeXt's stem is a nested model."""
    if not isinstance(operation, keras.Model):
        return [id(operation)]
    return [key for inner in graph_of(operation).operations for key in _inner_ids(inner)]
