"""Names in drawings: a font that has their characters, where the machine has one, else escapes.

matplotlib's own font, DejaVu Sans, has Latin, Greek, Cyrillic, Arabic and Hebrew letters, but no
Chinese, Japanese, Korean or Thai, and few emoji.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator

import matplotlib
from matplotlib import font_manager

IGNORED = frozenset(map(chr, range(0xFE00, 0xFE10)))
"""Variation selectors, which have no glyph of their own."""


@contextlib.contextmanager
def lettering(names: Iterable[str]) -> Iterator[Callable[[str], str]]:
    """Draw `names` with fonts that have their characters; no warning of a missing one is shown.

    Gives a function from a name to what is to be drawn: the name, with an escape such as `\\u65e5`
    for what no font of this machine has. Figures are made and saved inside.
    """
    fonts, missing = _fonts(frozenset("".join(names)))
    settings = {
        "font.family": [*matplotlib.rcParams["font.family"], *fonts],
        "text.parse_math": False,  # a class may be called `$`
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield lambda name: _legible(name, missing)


def one_font(names: Iterable[str]) -> tuple[str, Callable[[str], str]]:
    """Return the file of the font that has most characters of `names`, for Pillow, which takes one
    font at a time; and what is to be drawn of a name, as in `lettering`."""
    wanted = frozenset(c for c in "".join(names) if ord(c) > 127 and c.isprintable()) - IGNORED
    files = [font_manager.findfont(font_manager.FontProperties()), *_files().values()]
    best = max(files, key=lambda file: len(_drawable(file, wanted)))
    missing = wanted - _drawable(best, wanted)
    return best, lambda name: _legible(name, missing)


def _legible(name: str, missing: Collection[str]) -> str:
    return "".join("" if c in IGNORED else _escape(c) if c in missing else c for c in name)


def missing_note(names: Iterable[str], file: str) -> str:
    """Return a sentence on the names that no font of this machine has all characters of, or ""."""
    names = list(names)
    _, missing = _fonts(frozenset("".join(names)))
    bad = [name for name in names if missing & set(name)]
    if not bad:
        return ""
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return (
        f"no font on this machine has the characters of {bad[0]}{more}; in {file} they are "
        f"written as {_legible(bad[0], missing)}"
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


@functools.lru_cache(maxsize=64)
def _fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return families to add to the default one, and the characters that none has."""
    default = font_manager.findfont(font_manager.FontProperties())
    wanted = {c for c in characters if ord(c) > 127 and c.isprintable()} - IGNORED
    wanted -= _drawable(default, frozenset(wanted))
    families: list[str] = []
    while wanted:
        found = {name: _drawable(file, frozenset(wanted)) for name, file in _files().items()}
        best = max(found, key=lambda name: len(found[name]), default=None)
        if best is None or not found[best]:
            break
        families.append(best)
        wanted -= found[best]
    return tuple(families), frozenset(wanted)


@functools.cache
def _files() -> dict[str, str]:
    """Return a file for each family of this machine, upright and of usual weight if there is one.

    Last Resort has a box for every character.
    """
    entries = sorted(
        font_manager.fontManager.ttflist,
        key=lambda entry: (entry.style != "normal", str(entry.weight) not in ("400", "normal")),
    )
    files: dict[str, str] = {}
    for entry in entries:
        if not entry.name.startswith("Last Resort"):
            files.setdefault(entry.name, entry.fname)
    return files


def _drawable(file: str, characters: frozenset[str]) -> set[str]:
    """Return those of `characters` that a font has a glyph for, and that can be drawn."""
    try:
        font = font_manager.get_font(file)
        found = {c for c in characters if ord(c) in _glyphs(file)}
        if found:
            font.set_size(10, 100)
            font.load_char(ord(next(iter(found))))  # emoji in colour are images, which it cannot
    except (OSError, RuntimeError):
        return set()
    return found


@functools.lru_cache(maxsize=512)
def _glyphs(file: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(file).get_charmap())
