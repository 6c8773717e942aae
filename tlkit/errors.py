"""What can go wrong through the user's input, and how it is said.

The command line turns each of these into one message and the exit code of its class; anything
else that is raised is a bug and exits with 1.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, file too large."""


class TlkitError(Exception):
    """Bad input: the message says what, where, what is allowed and what was received."""

    exit_code = 2


class SpecError(TlkitError):
    """A run description (options, recipe, `--set`) that does not hold; lists every problem."""


class DataError(TlkitError):
    """A data source that is missing, empty or cannot be used for the task."""


class BackboneError(TlkitError, ValueError):
    """An unknown backbone, or one asked for a size or argument that it does not have.

    A `ValueError`, as `keras.applications` raises for the same.
    """


class SignatureError(BackboneError, TypeError):
    """A call of an application that does not fit its signature; a `TypeError` as for any other."""


class WeightsError(TlkitError, ValueError):
    """Pretrained weights that are neither on disk nor reachable, or that are not what they say.

    A `ValueError`, as `keras.applications` raises for the same.
    """


class FreezeError(TlkitError):
    """A freeze rule that cannot be read or matches nothing."""


class RunFolderError(TlkitError):
    """A run folder that cannot be made, is not one, or lacks what is asked of it."""


class CacheError(TlkitError):
    """A feature cache that cannot be written."""


class ExportError(TlkitError):
    """An export that cannot be written where or as it was asked for."""


class ParityError(TlkitError):
    """An exported model that does not answer as its run does; the export has been removed."""

    exit_code = 1


class TrainingError(TlkitError):
    """A training that came to no result, by the rates it was given."""


class DiskFullError(TlkitError):
    """A run folder that could not be written to: the disk, or what a user may have of it, is full.

    The message says how much is free and how to go on.
    """


class OutputError(TlkitError):
    """Standard output takes no more: it is a file on a disk that is full, say."""


class OutOfMemoryError(TlkitError):
    """Memory does not hold what was asked for; the message says what takes less of it."""


class Interrupted(TlkitError):
    """The user or the system stopped the training; the message says how to go on."""

    exit_code = 130


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest of `options`, or `""` if none is near."""
    names = list(options)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def one_of(table: Mapping[str, T], name: str, what: str, error: type[TlkitError]) -> T:
    """Return what is called `name` in a registry.

    Args:
        what: the option that names it, with which the message begins.

    Raises:
        error: there is none; the message names the nearest one, and all.
    """
    if name not in table:
        raise error(
            f"{what}: unknown.{did_you_mean(name, table)} Allowed: {', '.join(table)}. "
            f"Received: {name!r}"
        )
    return table[name]


def printable(text: str) -> str:
    """Return a name or message that can be written as UTF-8, on one line, in any terminal.

    What is no visible character (control characters and the escape sequences that begin with one,
    marks that turn the direction of writing, bytes of a file name that are not UTF-8) becomes an
    escape such as `\\x1b`.
    """
    if text.isprintable():
        return text
    # Under a locale that is not UTF-8, a name that is comes as one escape a byte.
    with contextlib.suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name, as Python carries it (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def received(value: Any) -> str:
    """Return `repr(value)` for a message, cut: ten lines of YAML may stand for gigabytes."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # a whole number of more than 4,300 digits, which Python does not write
        return f"a {type(value).__name__} of too many digits"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 4, 4
_SHORT.maxstring = _SHORT.maxother = 200
