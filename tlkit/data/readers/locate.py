"""Where the images lie that a table names: other separators, other case, no extension, a folder."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tlkit.data.pictures.files import EXTENSIONS
from tlkit.errors import DataError, printable

SAMPLE = 200
"""Names by which a folder beside the table is recognised before all are looked up in it."""

FOLDERS = 1000
"""Folders below that of the table among which the one with the images is looked for."""


class _Content:
    """What lies in one folder, listed once."""

    def __init__(self, folder: str):
        self.files, self.folders = set(), set()
        self.hidden = False  # may be entered, but not listed
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (self.folders if entry.is_dir() else self.files).add(entry.name)
        except PermissionError:
            self.hidden = True
        except (OSError, ValueError):  # not there, or no name of a folder
            pass

    @cached_property
    def files_alike(self) -> dict[str, list[str]]:
        return _by(self.files, _folded)

    @cached_property
    def folders_alike(self) -> dict[str, list[str]]:
        return _by(self.folders, _folded)

    @cached_property
    def stems(self) -> dict[str, list[str]]:
        images = [name for name in self.files if name.lower().endswith(EXTENSIONS)]
        return _by(images, lambda name: _folded(os.path.splitext(name)[0]))


def _by(names, key) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name in sorted(names):
        found[key(name)].append(name)
    return found


def _folded(name: str) -> str:
    """Return what names have in common that differ in case or in how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class Match:
    """The files that a cell may mean: one, unless it is ambiguous; and how they differ from it."""

    files: tuple[Path, ...]
    how: tuple[str, ...] = ()


class Finder:
    """Looks up images by what a cell says; each folder is listed once.

    Args:
        folders: where cells are relative to.
    """

    def __init__(self, folders: Sequence[Path]):
        self.folders = list(folders)
        self._known: dict[str, _Content] = {}

    def find(self, text: str, folders: Sequence[Path] | None = None) -> Match | None:
        """Return what `text` means in the folders, or None where it names nothing there."""
        found = [
            m for folder in folders or self.folders if (m := self._in(os.fspath(folder), text))
        ]
        exact = [m for m in found if not m.how] or found
        if len(exact) < 2:
            return exact[0] if exact else None
        return Match(tuple(file for m in exact for file in m.files), exact[0].how)

    def content(self, folder: str) -> _Content:
        if folder not in self._known:
            self._known[folder] = _Content(folder)
        return self._known[folder]

    def _in(self, folder: str, text: str) -> Match | None:
        full = os.path.normpath(os.path.join(folder, text))
        parent, name = os.path.split(full)
        here = self.content(parent)
        if name in here.files or (here.hidden and os.path.isfile(full)):
            return Match((Path(full),))
        how = []
        if "\\" in text:
            how.append("have backslashes")
            full = os.path.normpath(os.path.join(folder, text.replace("\\", "/")))
            parent, name = os.path.split(full)
            if name in self.content(parent).files:
                return Match((Path(full),), tuple(how))
        if full.startswith(folder + os.sep):
            below = os.path.relpath(parent, folder)
            parent = self._walk(folder, [] if below == "." else below.split(os.sep))
        return self._like(parent, name, how) if parent else None

    def _walk(self, folder: str, below: list[str]) -> str | None:
        """Return the folder below another, case aside; None where there is not exactly one."""
        for name in below:
            here = self.content(folder)
            names = [name] if name in here.folders else here.folders_alike.get(_folded(name), [])
            if len(names) != 1:
                return None
            folder = os.path.join(folder, names[0])
        return folder

    def _like(self, parent: str, name: str, how: list[str]) -> Match | None:
        here = self.content(parent)
        if names := ([name] if name in here.files else here.files_alike.get(_folded(name), [])):
            how = [*how, "differ in case from the files"]
        elif names := here.stems.get(_folded(name), []):
            names = [n for n in names if os.path.splitext(n)[0] == name] or names
            how = [*how, "lack the extension"]
        return Match(tuple(Path(parent, n) for n in names), tuple(how)) if names else None


def locate(
    texts: Sequence[str], finder: Finder, column: str, where: str, guess: bool
) -> tuple[dict[str, Path], list[str]]:
    """Return the file that each cell means, of those that are there, and notes on what was guessed.

    Args:
        texts: the cells of the column.
        where: the table, as a message begins.
        guess: whether, where none is found, they may all lie in one folder beside the table.

    Raises:
        DataError: none is there, or one may be several files.
    """
    unique = list(dict.fromkeys(texts))
    found = {text: match for text in unique if (match := finder.find(text))}
    notes = []
    if not found and guess:
        root = finder.folders[0]
        folder = _folder_with(unique, finder, root, where, column)
        if folder:
            found = {t: match for t in unique if (match := finder.find(t, [folder]))}
            shown = printable(folder.relative_to(root).as_posix())
            notes.append(f"images of column {column} are taken from the folder {shown}")
    if not found:
        raise DataError(_none_found(unique, finder, column, where))
    kinds = defaultdict(list)
    for text, match in found.items():
        if len(match.files) > 1:
            files = ", ".join(printable(str(file)) for file in match.files[:3])
            raise DataError(
                f"{where}: {column} {printable(text)!r} may be several files; write paths with "
                f"folder and extension. Received: {files}"
            )
        kinds[match.how].append((text, match.files[0].name))
    for how, pairs in kinds.items():
        if how:
            text, name = pairs[0]
            notes.append(
                f"{len(pairs):,} of {len(unique):,} paths in column {column} {' and '.join(how)}, "
                f"such as {printable(text)!r} for {printable(name)}"
            )
    if missing := len(unique) - len(found):
        notes.append(f"{missing:,} of the {len(unique):,} files in column {column} do not exist")
    return {text: match.files[0] for text, match in found.items()}, notes


def _folder_with(
    unique: Sequence[str], finder: Finder, root: Path, where: str, column: str
) -> Path | None:
    """Return the one folder below `root`, at most two deep, in which most of the images are.

    Raises:
        DataError: some are in several folders, or less than half in one.
    """
    sample = unique[:: max(1, len(unique) // SAMPLE)][:SAMPLE]
    level = [root]
    for _ in range(2):
        level = [
            folder / name
            for folder in level
            for name in sorted(finder.content(os.fspath(folder)).folders)
            if not name.startswith(".")
        ][:FOLDERS]
        counts = Counter({f: n for f in level if (n := sum(map(bool, _found(finder, f, sample))))})
        if len(counts) > 1:
            names = ", ".join(printable(f.relative_to(root).as_posix()) for f in counts)
            raise DataError(
                f"{where}: the files in column {column} are not beside it, but in several folders; "
                f'name those to take: --set "table.folder=[{names}]"'
            )
        if counts:
            ((folder, count),) = counts.items()
            if 2 * count >= len(sample):
                return folder
            name = printable(folder.relative_to(root).as_posix())
            raise DataError(
                f"{where}: none of the files in column {column} is beside it, and of "
                f"{len(sample):,} looked for {count:,} are in the folder {name}; to take those: "
                f'--set "table.folder={name}"'
            )
    return None


def _found(finder: Finder, folder: Path, texts: Sequence[str]) -> list[Match | None]:
    return [finder.find(text, [folder]) for text in texts]


def _none_found(unique: Sequence[str], finder: Finder, column: str, where: str) -> str:
    tried = Path(os.path.normpath(finder.folders[0] / unique[0]))
    here = finder.content(os.fspath(tried.parent))
    root = finder.folders[0]
    if len(finder.folders) == 1 and finder.find(unique[0], [root.parent]):
        return (
            f"{where}: the paths in column {column} begin with the folder of the table: "
            f"--set table.folder=.. Received: {printable(unique[0])!r}"
        )
    lying = [*sorted(here.files), *sorted(here.folders)]
    if lying:
        beside = f"beside it {'lie' if len(lying) > 1 else 'lies'} {', '.join(lying[:3])}"
    else:
        beside = "its folder is " + ("empty" if tried.parent.is_dir() else "not there")
    return (
        f"{where}: none of the {len(unique):,} files in column {column} exists. Allowed: paths "
        "relative to the table, or to --set table.folder=FOLDER. "
        f"Received: {printable(unique[0])!r}; tried {printable(str(tried))}; {printable(beside)}"
    )
