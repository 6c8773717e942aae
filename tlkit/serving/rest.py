"""Requests in TensorFlow Serving's REST form.

Source: tensorflow_serving/util/json_tensor.cc and model_servers/http_rest_api_handler.cc, from
which the texts of errors are; and "RESTful API" in TensorFlow Serving's documentation.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.backbones.sides import Size, sides

DEFAULT = "serving_default"

TYPES = {"DT_STRING": "string", "DT_UINT8": "uint8", "DT_FLOAT": "float"}
"""Types of inputs, and what they are called in errors."""

SHOWN = 200
"""Characters of a value in an error."""


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Input:
    """The one input of a signature.

    Attributes:
        name: of the input.
        dtype: one of `TYPES`.
        shape: -1: any number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


def signatures(size: Size) -> dict[str, Input]:
    """Return the signatures of a SavedModel of tlkit by name, see `tlkit.export.savedmodel`."""
    return {
        DEFAULT: Input("image_bytes", "DT_STRING", (-1,)),
        "serve_pixels": Input("images", "DT_UINT8", (-1, -1, -1, 3)),
        "serve_resized": Input("images", "DT_FLOAT", (-1, *sides(size), 3)),
    }


@dataclass(frozen=True)
class Asked:
    """A request of `:predict`.

    Attributes:
        signature: its name.
        tensor: a list of bytes, or an array; the first axis is of the images.
        rows: whether it came by `instances`, and is answered so.
    """

    signature: str
    tensor: list[bytes] | np.ndarray
    rows: bool


def read(body: bytes, known: Mapping[str, Input]) -> Asked:
    """Read the body of a request.

    Raises:
        Refused: it is malformed, or asks for what there is not.
    """
    try:
        return _read(_parsed(body), known)
    except RecursionError:  # lists without end
        raise Refused("JSON Parse error: nested too deeply") from None


def _read(parsed: dict[str, Any], known: Mapping[str, Input]) -> Asked:
    signature = parsed.get("signature_name", "")
    if not isinstance(signature, str):
        raise Refused(
            f"JSON Value: {_shown(parsed)} not formatted correctly. 'signature_name' key must be a "
            "string value."
        )
    signature = signature or DEFAULT
    if signature not in known:
        raise Refused(f'Serving signature name: "{signature}" not found in signature def')
    if "instances" in parsed and "inputs" in parsed:
        raise Refused(
            f"JSON Value: {_shown(parsed)} Not formatted correctly expecting only one of 'inputs' "
            "or 'instances' keys to exist "
        )
    given = known[signature]
    if "instances" in parsed:
        value, rows = _instances(parsed, given), True
    elif "inputs" in parsed:
        value, rows = _column(parsed["inputs"], given), False
    else:
        raise Refused("Missing 'inputs' or 'instances' key")
    return Asked(signature, _tensor(value, given), rows)


def _parsed(body: bytes) -> dict[str, Any]:
    if not body:
        raise Refused("JSON Parse error: The document is empty")
    try:
        parsed = json.loads(body)
    except json.JSONDecodeError as error:
        raise Refused(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError as error:  # no text at all, or digits without end
        raise Refused(f"JSON Parse error: {str(error)[:SHOWN]}") from None
    if not isinstance(parsed, dict):
        raise Refused(f"JSON Value: {_shown(parsed)} Is not object")
    return parsed


def _instances(parsed: dict[str, Any], given: Input) -> list[Any]:
    """Return the rows of a request, taken out of objects that name the input."""
    rows = parsed["instances"]
    if not isinstance(rows, list):
        raise Refused(f"JSON Value: {_shown(parsed)} Excepting 'instances' to be an list/array")
    if not rows:
        raise Refused(f"JSON Value: {_shown(parsed)} No values in 'instances' array")
    named, found = _names_inputs(rows[0]), []
    for i, row in enumerate(rows):
        if not named and _names_inputs(row):
            raise Refused(f"Expecting value/list but got object at item {i} of input list")
        if named and not _names_inputs(row):
            raise Refused(f"Expecting object but got list at item {i} of input list")
        if named and set(row) != {given.name}:
            raise Refused(
                f"Failed to process element: {i} of 'instances' list. JSON object: {_shown(row)} "
                f"keys must be equal to: {given.name}"
            )
        found.append(row[given.name] if named else row)
    return found


def _column(value: Any, given: Input) -> Any:
    """Return what stands for the input in `inputs`: it, or an object that names it."""
    if not _names_inputs(value):
        return value
    if given.name not in value:
        raise Refused(f"Missing named input: {given.name} in 'inputs' object.")
    return value[given.name]


def _names_inputs(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _tensor(value: Any, given: Input) -> list[bytes] | np.ndarray:
    """Return a JSON value as the input takes it."""
    shape = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if given.dtype == "DT_STRING":
        found = [_leaf(each, given.dtype) for each in _flat(value, shape)]
    else:
        found = _numbers(value, given.dtype, shape)
    fits = len(shape) == len(given.shape) and all(
        want in (-1, got) for want, got in zip(given.shape, shape, strict=True)
    )
    if not fits or 0 in shape:
        raise Refused(
            f"{given.name}: expected shape {_shape(given.shape)}, no side 0, but got "
            f"{_shape(shape)}"
        )
    return found


def _numbers(value: Any, dtype: str, shape: list[int]) -> np.ndarray:
    wanted = np.uint8 if dtype == "DT_UINT8" else np.float32
    try:
        found = np.array(value)
    except (ValueError, OverflowError):  # lists of several lengths
        found = np.array(None)
    fits = found.dtype.kind in ("iu" if dtype == "DT_UINT8" else "iuf")
    if dtype == "DT_UINT8" and fits:
        fits = bool(((found >= 0) & (found <= 255)).all())
    elif fits and (np.isfinite(found) & (np.abs(found) > np.finfo(np.float32).max)).any():
        raise Refused("Cannot convert JSON value: to float without loss of precision.")
    if not fits:
        for each in _flat(value, shape):  # the first wrong one is named
            _leaf(each, dtype)
        raise Refused(f"JSON Value: {_shown(value)} is not of expected type: {TYPES[dtype]}")
    return found.astype(wanted)


def _flat(value: Any, shape: list[int], level: int = 0) -> list[Any]:
    """Return the values of nested lists in order.

    Raises:
        Refused: the lists are not of the lengths `shape`.
    """
    if not isinstance(value, list):
        if level != len(shape):
            raise Refused(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}"
            )
        return [value]
    if level >= len(shape):
        raise Refused(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise Refused(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    return [leaf for each in value for leaf in _flat(each, shape, level + 1)]


def _leaf(value: Any, dtype: str) -> Any:
    """Return one value of a tensor, checked."""
    kinds = {dict: "Object", str: "String", bool: str(value), type(None): "Null"}
    kind = kinds.get(type(value), "Number")
    if dtype == "DT_STRING" and kind == "Object":
        if not _is_base64(value):
            raise Refused(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
        return _unescaped(value["b64"])
    if dtype == "DT_STRING" and kind == "String":
        return value.encode("utf-8", "surrogatepass")
    whole = kind == "Number" and not isinstance(value, float) and 0 <= value <= 255
    if kind != "Number" or (dtype == "DT_UINT8" and not whole) or dtype == "DT_STRING":
        raise Refused(
            f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {TYPES[dtype]}"
        )
    return value


def _unescaped(text: str) -> bytes:
    text = "".join(text.split())  # as there: white space and missing padding are taken
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("Unable to base64 decode") from None


def _shown(value: Any) -> str:
    """Return a value as it stands in an error, cut."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(value):  # no further than needed
        text += piece
        if len(text) > SHOWN:
            return f"{text[:SHOWN]}..."
    return text


def _shape(shape: Any) -> str:
    return f"[{','.join(map(str, shape))}]"
