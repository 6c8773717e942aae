"""Answers in TensorFlow Serving's REST form: predictions, the status and the signatures of a model.

Sources: as for `tlkit.serving.rest`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkit.serving.rest import Input, Refused

METHOD = "tensorflow/serving/predict"


def write(answers: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """Return the body of an answer.

    Args:
        answers: the outputs of a signature.
        rows: see `Asked`.

    Raises:
        Refused: rows are asked for, and an output has none for each image.
    """
    plain = {name: _plain(values) for name, values in sorted(answers.items())}
    if not rows:
        together = plain if len(plain) > 1 else next(iter(plain.values()))
        return _json({"outputs": together})
    count = None
    for name, values in plain.items():
        if count is not None and len(values) != count:
            raise Refused(
                f"Tensor name: {name} has inconsistent batch size: {len(values)} expecting: {count}"
            )
        count = len(values)
    if len(plain) == 1:
        return _json({"predictions": next(iter(plain.values()))})
    names = list(plain)
    each = zip(*plain.values(), strict=True)
    return _json({"predictions": [dict(zip(names, row, strict=True)) for row in each]})


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype == object:  # strings of TensorFlow; none of the names ends in `_bytes`
        return [value.decode("utf-8") for value in values.tolist()]
    return values.tolist()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def status(version: int) -> dict[str, Any]:
    """Return the status of a model that is served."""
    fine = {"error_code": "OK", "error_message": ""}
    return {
        "model_version_status": [{"version": str(version), "state": "AVAILABLE", "status": fine}]
    }


def metadata(
    name: str, version: int, known: Mapping[str, Input], outputs: Mapping[str, tuple[str, Any]]
) -> dict[str, Any]:
    """Return the signatures of a model.

    Args:
        outputs: type and shape of each output, by name; the same for all signatures.
    """
    answered = {key: _info(key, *about) for key, about in outputs.items()}
    defined = {
        key: {
            "inputs": {given.name: _info(f"{key}_{given.name}", given.dtype, given.shape)},
            "outputs": answered,
            "method_name": METHOD,
        }
        for key, given in known.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": defined}},
    }


def _info(name: str, dtype: str, shape: Any) -> dict[str, Any]:
    sides = [{"size": str(side), "name": ""} for side in shape]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": sides, "unknown_rank": False},
        "name": f"{name}:0",
    }
