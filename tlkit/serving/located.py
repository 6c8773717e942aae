"""Where what is served lies, its name and version, and the address it is served at.

Without TensorFlow, so that a mistake is said at once.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tlkit.errors import SpecError, printable, received
from tlkit.export.formats import find_export
from tlkit.places import run_of

FORBIDDEN = "/:"
"""What TensorFlow Serving's paths allow in no name of a model."""


def highest_version(path: Path) -> Path:
    """Return the export of the highest version where `path` is a folder of such, as TensorFlow
    Serving has it; any other path as it is."""
    if (path / "spec.yaml").is_file() or find_export(path) is not None or not path.is_dir():
        return path
    versions = [each for each in path.iterdir() if each.name.isdecimal() and find_export(each)]
    return max(versions, key=lambda each: int(each.name), default=path)


def version_of(path: Path) -> int:
    """Return the number that a folder of TensorFlow Serving's form bears; 1 of others."""
    return int(path.name) if path.name.isdecimal() and path.is_dir() else 1


def name_of(name: str | None, path: Path) -> str:
    """Return the name of a model in addresses.

    Args:
        name: as asked for; None: that of the folder, of a folder of versions the one above.

    Raises:
        SpecError: it has a character that separates.
    """
    folder = run_of(path.resolve())
    folder = folder if folder.is_dir() else folder.parent
    folder = folder.parent if folder.name.isdecimal() else folder
    found = folder.name if name is None else name
    if not found or any(c in FORBIDDEN for c in found):
        raise SpecError(
            "--name: is no name of a model in an address. Allowed: without slash and colon. "
            f"Received: {received(found)}"
        )
    return found


def bound(host: str, port: int) -> socket.socket:
    """Return a socket at an address, so that one that is taken is said before all that takes long.

    Raises:
        SpecError: it cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sends at once (TCP_NODELAY) on sockets alone that say that they are TCP's: without
        # it the second packet of an answer waits 40 ms for the first to be acknowledged.
        found = socket.socket(family, kind, socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise SpecError(f"--host {printable(host)}: {error}") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError) as error:
        found.close()
        raise SpecError(
            f"--host {host}, --port {port}: cannot be bound: {getattr(error, 'strerror', error)}. "
            "Allowed: an address of this machine, and a port that nothing listens at"
        ) from error
    return found
