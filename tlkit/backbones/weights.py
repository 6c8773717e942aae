"""ImageNet weights: which files there are, where they lie, how they get there.

Keras looks for a file by name in its cache folder before it downloads it. All ways end there: a
file from a mirror or from a path is put into that folder under Keras's own name, so that the same
file gives the same model whichever way it came. (By path, EfficientNet would silently be built
with another preprocessing: `keras/src/applications/efficientnet.py`.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tlkit.atomic import file_draft
from tlkit.backbones.catalog import CATALOG, Backbone, WeightsFile
from tlkit.errors import WeightsError

MIRROR = "TLKIT_WEIGHTS"
"""Environment variable: a folder or a URL that has files under Keras's own names."""

TIMEOUT = 60
"""Seconds without an answer after which a download is given up."""


def models_folder() -> Path:
    """Return the folder in which Keras looks for weights before it downloads them."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def on_disk() -> list[tuple[Backbone, WeightsFile]]:
    """Return the rows and files of the catalog that lie in Keras's folder."""
    here = {path.name for path in models_folder().glob("*")}
    return [(row, file) for row in CATALOG.values() for file in row.weights if file.name in here]


def file_named(name: str) -> WeightsFile | None:
    """Return the file of the catalog that Keras keeps under `name`."""
    return next((f for row in CATALOG.values() for f in row.weights if f.name == name), None)


def file_for(row: Backbone, arguments: dict[str, Any]) -> WeightsFile | None:
    """Return the file that the constructor of `row` reads when called with `arguments`.

    Source for the sizes of MobileNet and MobileNetV2: `keras/src/applications/mobilenet_v2.py`.
    """
    rows, columns = (arguments.get("input_shape") or (None, None))[:2]
    size = rows if rows == columns and rows in row.sizes else 224
    wanted = {"alpha": 1.0, "minimalistic": False, **arguments, "size": size}
    top = arguments.get("include_top", True)
    for file in row.weights:
        if file.top == top and all(wanted[key] == value for key, value in file.arguments.items()):
            return file
    return None


def official(row: Backbone, path: Path, top: bool) -> WeightsFile | None:
    """Return which of Keras's own files the one at `path` is, by name or by hash."""
    files = [file for file in row.weights if file.top == top]
    named = [file for file in files if file.name == path.name]
    return next((file for file in named or files if named or is_whole(path, file)), None)


def is_whole(path: Path, file: WeightsFile) -> bool | None:
    """Tell whether `path` has the hash that Keras states; None where it states none."""
    if file.hash is None:
        return None
    kind = hashlib.sha256 if len(file.hash) == 64 else hashlib.md5
    with path.open("rb") as content:
        return hashlib.file_digest(content, kind).hexdigest() == file.hash


def fetch(file: WeightsFile) -> Path:
    """Put `file` into Keras's folder, from the mirror if there is one, and return its path.

    Raises:
        WeightsError: it is nowhere to be had, or is not what Keras says it is.
    """
    target = models_folder() / file.name
    if target.is_file() and is_whole(target, file) is not False:
        return target
    mirror = os.environ.get(MIRROR)
    source = file.url if not mirror else f"{mirror.rstrip('/')}/{file.name}"
    return _place(source, file, target)


def from_mirror(file: WeightsFile) -> None:
    """Put `file` into Keras's folder if it is missing there and a mirror is set."""
    if os.environ.get(MIRROR) and not (models_folder() / file.name).is_file():
        fetch(file)


def from_path(path: Path, file: WeightsFile) -> Path:
    """Put the file at `path`, which must be the official one, into Keras's folder.

    Raises:
        WeightsError: it is not what Keras says it is.
    """
    target = models_folder() / file.name
    if target.is_file() and is_whole(target, file) is not False:
        return target
    return _place(str(path), file, target)


def _place(source: str, file: WeightsFile, target: Path) -> Path:
    """Copy `source`, a path or URL, to `target`; half a file is never seen under its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file_draft(target, f".{file.name}.", shared=True) as draft:
            with draft.open("wb") as out, _open(source) as content:
                shutil.copyfileobj(content, out)
            if is_whole(draft, file) is False:
                raise WeightsError(
                    f"weights {source}: are not the file that Keras states the hash of. "
                    f"Allowed: {file.hash}"
                )
    except (OSError, urllib.error.URLError) as error:
        raise WeightsError(missing(file, str(getattr(error, "reason", error)))) from error
    return target


def _open(source: str):
    if source.startswith(("http://", "https://", "file://")):
        return urllib.request.urlopen(source, timeout=TIMEOUT)
    return Path(source).open("rb")


def missing(file: WeightsFile, reason: str = "") -> str:
    """Say that `file` is missing, where it can be had, where it belongs, and what is there."""
    there = sorted({row.name for row, _ in on_disk()})
    why = f" ({reason})" if reason else ""
    return (
        f"weights: {file.name} is not on disk and could not be downloaded{why}. Get {file.url} and "
        f"put it into {models_folder()}, or choose random weights (--set backbone.weights=none; in "
        f"Python weights=None), or name a folder or URL that has it in {MIRROR}. "
        f"On disk are files of: {', '.join(there) or 'no backbone'}"
    )
