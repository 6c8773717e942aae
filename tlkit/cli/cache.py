"""`tlkit cache`: the frozen features that are kept on disk."""

from __future__ import annotations

import time

import click

from tlkit.progress import Progress


@click.group(epilog="Examples: tlkit cache list   |   tlkit cache clear")
def cache() -> None:
    """List or clear the frozen features kept on disk.

    They lie in the folder `features` of TLKIT_CACHE (default: tlkit in the user's cache folder)
    and make the next run on the same pictures and backbone start where this one stood.
    """


@cache.command("list", epilog="Example: tlkit cache list")
def list_() -> None:
    """List what is kept, the longest unused first."""
    from rich.table import Table

    from tlkit.training.cache import features_folder, list_entries

    progress = Progress()
    entries = list_entries(features_folder())
    table = Table("features", "pictures", "MiB", "last used")
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = f"{entry.bytes / 2**20:,.1f}"
        table.add_row(entry.title, f"{entry.pictures:,}", size, used)
    progress.console.print(table)
    total = sum(entry.bytes for entry in entries) / 2**20
    progress.say("cache", f"{features_folder()}: {total:,.1f} MiB")


@cache.command("clear", epilog="Example: tlkit cache clear")
def clear_() -> None:
    """Remove kept features, findings of scans, unpacked zip files; they are made anew at need."""
    from tlkit.data.archive import clear_unpacked
    from tlkit.data.verdicts import clear_scans
    from tlkit.training.cache import clear, features_folder

    removed = clear(features_folder()) + clear_scans() + clear_unpacked()
    Progress().say("cache", f"{removed / 2**20:,.1f} MiB removed")
