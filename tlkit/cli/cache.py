"""`tlkit cache`: the frozen features that are kept on disk."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import click

from tlkit.cli.examples import examples
from tlkit.progress import Progress


@click.group(
    epilog=examples(
        "tlkit cache list",
        "tlkit cache clear",
    )
)
def cache() -> None:
    """List or clear the frozen features kept on disk.

    They lie in the folder `features` of TLKIT_CACHE (default: tlkit in the user's cache folder)
    and make the next run on the same images and backbone start where this one stood.
    """


@cache.command(
    "list",
    epilog=examples(
        "tlkit cache list",
    ),
)
def list_() -> None:
    """List what is kept, the longest unused first."""
    from rich.table import Table

    from tlkit.features.cache import features_folder, list_entries

    progress = Progress()
    entries = list_entries(features_folder())
    table = Table("features", "images", "MiB", "last used")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = f"{entry.bytes / 2**20:,.1f}"
        table.add_row(entry.title, f"{entry.images:,}", size, used)
    progress.console.print(table)
    total = sum(entry.bytes for entry in entries) / 2**20
    progress.say("cache", f"{features_folder()}: {total:,.1f} MiB")
    for folder, what in _others().items():
        if folder.is_dir():
            progress.say("", f"{folder}: {_bytes(folder) / 2**20:,.1f} MiB, {what}")


def _others() -> dict[Path, str]:
    """Return the folders of the cache beside that of the features, and what is in them."""
    from tlkit.places import cache_folder, unpacked_folder

    return {
        cache_folder() / "scan": "what scans have found",
        cache_folder() / "examples": "example data, laid out",
        unpacked_folder(): "unpacked zip files",
    }


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process may be removing it
            total += path.stat().st_size if path.is_file() else 0
    return total


@cache.command(
    "clear",
    epilog=examples(
        "tlkit cache clear",
    ),
)
def clear_() -> None:
    """Remove features, findings of scans, example data, unpacked zip files; all are made anew."""
    from tlkit.features.cache import clear, features_folder

    removed = clear(features_folder())
    for folder in _others():
        before = _bytes(folder)
        shutil.rmtree(folder, ignore_errors=True)
        removed += before - _bytes(folder)
    Progress().say("cache", f"{removed / 2**20:,.1f} MiB removed")
