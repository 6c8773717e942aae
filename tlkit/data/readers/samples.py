"""The embedded example data: solar cells (ELPV) and handwritten digits, as folders of classes.

They are laid out once below the cache folder, so that every command works on them as it does on
a person's own images.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tlkit.atomic import folder_draft
from tlkit.data.pictures.files import read_file
from tlkit.data.readers.laid_out import (
    mark,
    remove,
    seal_of,
    sealed_times,
    stamp,
    times,
    write_seal,
)
from tlkit.errors import CacheError, DataError, did_you_mean
from tlkit.places import cache_folder

ELPV_LICENCE = (
    "ELPV solar cells (Buerhop-Lutz et al. 2018, Deitsch et al. 2019): licence CC BY-NC-SA 4.0, "
    "not for commercial use"
)
DEFECTIVE = 0.5
"""Cells whose defect probability (0, 1/3, 2/3 or 1) is above this count as defective."""


def prepare_example(name: str) -> Path:
    """Return the folder of `example:elpv` or `example:digits`; made at the first use.

    It is made anew if it is no longer as it was made.

    Raises:
        DataError: there is no such example, or the package that carries it is not installed.
    """
    key = name.removeprefix("example:")
    if key not in EXAMPLES:
        raise DataError(
            f"data {name}: unknown example.{did_you_mean(key, EXAMPLES)} "
            f"Allowed: {', '.join(f'example:{known}' for known in EXAMPLES)}"
        )
    folder = cache_folder() / "examples" / key
    if not _is_whole(folder):
        try:
            remove(folder)
            with folder_draft(folder) as draft:
                EXAMPLES[key](draft)
                for name in (names := sorted(times(draft))):
                    mark(draft, name)
                write_seal(folder, _hash(names))
        except OSError as error:
            if not _is_whole(folder):  # else another process was quicker, with the same images
                raise CacheError(
                    f"data {name}: {folder.parent} cannot be written: {error.strerror}. Free some "
                    "space, or set TLKIT_CACHE to another folder"
                ) from error
    return folder


def _hash(names: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=16).hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        found = sealed_times(folder)
        whole = read_file(seal_of(folder)) == _hash(sorted(found)).encode("ascii")
        return whole and all(stamp(name) == time for name, time in found.items())
    except (OSError, UnicodeError):
        return False


def _elpv(folder: Path) -> None:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None:
        raise DataError(
            "data example:elpv: the package elpv-dataset is not installed; install it with: "
            "pip install 'tlkit[quickstart]'"
        )
    root = Path(found.submodule_search_locations[0]) / "data"
    for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines():
        file, probability, _cell_type = line.split()
        label = "defective" if float(probability) > DEFECTIVE else "intact"
        (folder / label).mkdir(exist_ok=True)
        shutil.copyfile(root / file, folder / label / Path(file).name)


def _digits(folder: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        grey = Image.fromarray((pixels * (255 / 16)).astype("uint8"))  # values are 0-16
        grey.save(folder / str(label) / f"digit{i:04d}.png")


EXAMPLES: dict[str, Callable[[Path], None]] = {"elpv": _elpv, "digits": _digits}
