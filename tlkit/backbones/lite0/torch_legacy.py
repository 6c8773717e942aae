"""Read the tensors of a torch file in the legacy (pre-1.6, non-zip) format, without torch.

Such a file is five parts in a row: the pickled magic number, protocol and system information; the
pickled state dict, in which a tensor is a view of a storage named by a key; the pickled list of
those keys; then per key an 8-byte element count and the raw values. The layout follows
`_legacy_save` in https://github.com/pytorch/pytorch/blob/main/torch/serialization.py.

A pickle is a program. Python's `pickle` would run it, so the few instructions a state dict needs
are carried out here instead: they build values and look up names in a table, and call nothing.
"""

from __future__ import annotations

import io
import os
import pickletools
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DIMENSIONS = 32
DTYPES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
}
ORDERED_DICT = "collections.OrderedDict"
REBUILD = "torch._utils._rebuild_tensor_v2"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_FIRST_BYTES = b"\x80\x02\x8a\x0a"  # pickle protocol 2 and a ten-byte number: the magic one
_MARK = object()


class _Refused(ValueError):
    """What is wrong with the file's content; `read_state_dict` adds which file it is."""


@dataclass(frozen=True)
class _Name:
    """An allowed class or function of the pickle, never the thing itself."""

    name: str


@dataclass
class _Storage:
    """A block of values; `start` is its first byte, known once the whole file has been walked."""

    key: str
    dtype: np.dtype
    count: int
    start: int = -1


@dataclass(frozen=True)
class _View:
    """A tensor: which elements of a storage it shows, counted in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the file's tensors by name, in file order.

    The arrays are read-only views of the file's bytes with the strides the file gives them, so
    many names for one storage cost no memory; copy one to write to it.

    Raises:
        WeightsError: the file cannot be read, is not in the legacy format, or holds anything but
            a flat mapping from names to tensors that lie inside it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"The weights file {str(path)!r} cannot be read, a readable torch .pth file is "
            f"wanted, received: {error.strerror or error}."
        ) from error
    try:
        return _read(data)
    except ValueError as error:
        raise WeightsError(
            f"The weights file {str(path)!r} is not a torch state dict in the legacy format: "
            f"{error}."
        ) from error


def _read(data: bytes) -> dict[str, np.ndarray]:
    if data[:4] != _FIRST_BYTES:
        received = f"{data[:4]!r}"
        if data[:4] == b"PK\x03\x04":
            received = (
                "a zip archive, which torch 1.6 and later write unless torch.save is given "
                "_use_new_zipfile_serialization=False"
            )
        raise _Refused(
            f"at byte 0 the magic number {_FIRST_BYTES!r} is wanted, received {received}"
        )
    stream = io.BytesIO(data)
    _expect("the magic number", MAGIC, _unpickle(stream, {}))
    _expect("the protocol", PROTOCOL, _unpickle(stream, {}))
    system = _unpickle(stream, {})
    little = system.get("little_endian") if isinstance(system, dict) else system
    _expect("little_endian of the system information", True, little)
    storages: dict[str, _Storage] = {}
    state = _unpickle(stream, storages)
    keys = _unpickle(stream, {})
    _place_storages(data, stream.tell(), keys, storages)
    if not isinstance(state, dict):
        raise _Refused(f"a mapping from names to tensors is wanted, received {_short(state)}")
    return {name: _array(data, name, value) for name, value in state.items()}


def _unpickle(stream: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """Carry out one pickle of `stream` and leave the stream behind it."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    start = stream.tell()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            _step(opcode.name, argument, stack, memo, storages)
    except _Refused as error:
        raise _Refused(f"before byte {stream.tell()} {error}") from None
    except (ValueError, IndexError, KeyError) as error:
        # Cut off or unknown instructions, and those without the values they work on.
        raise _Refused(
            f"before byte {stream.tell()} a whole pickle is wanted, received a broken one ({error})"
        ) from error
    if len(stack) != 1:
        raise _Refused(f"at byte {start} a pickle of one value is wanted, received {len(stack)}")
    return stack.pop()


def _step(op: str, argument: Any, stack: list, memo: dict, storages: dict) -> None:
    """Carry out one instruction; the values it needs are on `stack`, the earlier ones in `memo`."""
    match op:
        case "PROTO" | "STOP":
            pass
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
            stack.append(argument)
        case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
            stack.append(_CONSTANTS[op])
        case "EMPTY_DICT" | "EMPTY_LIST":
            stack.append({} if op == "EMPTY_DICT" else [])
        case "MARK":
            stack.append(_MARK)
        case "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            values = [stack.pop() for _ in range(int(op[-1]))]
            stack.append(tuple(reversed(values)))
        case "APPEND" | "APPENDS":
            values = [stack.pop()] if op == "APPEND" else _pop_to_mark(stack)
            _wanted(stack[-1], list, "a list to append to").extend(values)
        case "SETITEM" | "SETITEMS":
            values = [stack.pop(), stack.pop()][::-1] if op == "SETITEM" else _pop_to_mark(stack)
            _set_items(stack[-1], values)
        case "BUILD":
            stack.pop()  # an OrderedDict's attributes: module versions, which no tensor needs
            _wanted(stack[-1], dict, "an OrderedDict with attributes")
        case "GLOBAL":
            stack.append(_name(argument.replace(" ", ".")))
        case "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        case "BINPERSID":
            stack.append(_storage(stack.pop(), storages))
        case _:
            raise _Refused(f"an instruction of a plain state dict is wanted, received {op}")


def _name(name: str) -> _Name:
    allowed = (ORDERED_DICT, REBUILD)
    if name not in allowed and name not in DTYPES:
        kinds = ", ".join((*allowed, *DTYPES))
        raise _Refused(f"only the names {kinds} are allowed, received {name!r}")
    return _Name(name)


def _call(function: Any, arguments: Any) -> Any:
    if function == _Name(ORDERED_DICT) and arguments == ():
        return {}
    if function == _Name(REBUILD) and isinstance(arguments, tuple) and len(arguments) >= 4:
        storage, offset, shape, strides = arguments[:4]
        sizes = (shape, strides)
        if (
            isinstance(storage, _Storage)
            and _is_count(offset)
            and all(isinstance(size, tuple) and all(map(_is_count, size)) for size in sizes)
            and len(shape) == len(strides) <= MAX_DIMENSIONS
        ):
            return _View(storage, offset, shape, strides)
    name = function.name if isinstance(function, _Name) else _short(function)
    raise _Refused(
        "OrderedDict() or _rebuild_tensor_v2(storage, offset, shape, strides, ...) with at most "
        f"{MAX_DIMENSIONS} dimensions is wanted, received a call of {name} with {_short(arguments)}"
    )


def _storage(identity: Any, storages: dict[str, _Storage]) -> _Storage:
    """Return the storage for `("storage", type, key, device, count, None)`."""
    fields = identity if isinstance(identity, tuple) else ()
    match fields:
        case ("storage", _Name(kind), str(key), str(), count, None) if kind in DTYPES:
            if _is_count(count):
                wanted = _Storage(key, np.dtype(DTYPES[kind]), count)
                if storages.setdefault(key, wanted) == wanted:
                    return storages[key]
    raise _Refused(
        "a storage ('storage', type, key, device, count, None), the same at each mention, is "
        f"wanted, received {_short(identity)}"
    )


def _place_storages(data: bytes, start: int, keys: Any, storages: dict[str, _Storage]) -> None:
    """Give each storage its place in the file, whose end must be the end of the last one."""
    names = keys if isinstance(keys, list) and all(isinstance(key, str) for key in keys) else []
    if sorted(names) != sorted(storages):
        raise _Refused(
            f"before byte {start} a list of the {len(storages)} storage keys is wanted, received "
            f"{_short(keys)}"
        )
    for key in names:
        storage = storages[key]
        count = int.from_bytes(data[start : start + 8], "little", signed=True)
        end = start + 8 + storage.count * storage.dtype.itemsize
        if len(data) < end or count != storage.count:
            raise _Refused(
                f"at byte {start} storage {key!r} of {storage.count} values is wanted, received "
                f"{len(data) - start} bytes with a count of {count}"
            )
        storage.start, start = start + 8, end
    if start != len(data):
        raise _Refused(
            f"at byte {start} the end of the file is wanted, received {len(data) - start} bytes"
        )


def _array(data: bytes, name: str, view: Any) -> np.ndarray:
    if not isinstance(view, _View):
        raise _Refused(f"under {name!r} a tensor is wanted, received {_short(view)}")
    storage, elements = view.storage, 1
    for size in view.shape:
        elements *= size
    last = sum((size - 1) * step for size, step in zip(view.shape, view.strides, strict=True))
    # A stride of 0 shows one value many times: inside the storage, yet of any size.
    if view.offset + (last + 1 if elements else 0) > storage.count or elements > storage.count:
        raise _Refused(
            f"tensor {name!r} must lie in its storage of {storage.count} values, received offset "
            f"{view.offset}, shape {_short(view.shape)} and strides {_short(view.strides)}"
        )
    itemsize = storage.dtype.itemsize
    values = np.frombuffer(data, storage.dtype, storage.count, storage.start)[view.offset :]
    strides = tuple(step * itemsize for step in view.strides)
    return np.lib.stride_tricks.as_strided(values, view.shape, strides, writeable=False)


def _pop_to_mark(stack: list) -> list:
    values: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        values.append(value)
    return values[::-1]


def _set_items(target: Any, values: list) -> None:
    target = _wanted(target, dict, "a mapping to fill")
    if len(values) % 2:
        raise _Refused("pairs of name and value are wanted, received an odd number of values")
    for name, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(name, str) or name in target:
            raise _Refused(f"each name must be text and come once, received {_short(name)}")
        target[name] = value


def _wanted(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise _Refused(f"{what} is wanted, received {_short(value)}")
    return value


def _expect(what: str, wanted: Any, received: Any) -> None:
    if type(received) is not type(wanted) or received != wanted:
        raise _Refused(f"{what} must be {wanted}, received {_short(received)}")


def _is_count(value: Any) -> bool:
    # Up to here a count of 8-byte values is still a 64-bit number of bytes for numpy.
    return type(value) is int and 0 <= value < 2**59


def _short(value: Any) -> str:
    # A pickle's containers may hold themselves, or each other many times over.
    shortener = reprlib.Repr()
    shortener.maxlevel = 2
    return shortener.repr(value)
