"""What is in a data set, and what is wrong with it: the Python twin of `tlkit data scan`."""

from __future__ import annotations

from typing import Any

from tlkit.commands.asked import spec_of
from tlkit.data.pictures.rendering import rendering_of
from tlkit.data.scan.summary import scan_source
from tlkit.progress import Progress, as_progress
from tlkit.tasks.registry import targets_of


def scan(data: Any, *, progress: bool | Progress = True, **fields: Any) -> dict[str, Any]:
    """Return what is in `data`: classes, sizes, formats, broken files, duplicates.

    Args:
        data: a folder, a CSV file or whatever else `train` takes by name.
        **fields: of `RunSpec`, those that `idle.TAKES` has for `data scan`.

    Returns:
        What `tlkit data scan --json` prints.

    Raises:
        TlkitError: bad input.

    Example:
        tlkit.scan("flowers/")["left_out"]
    """
    spec, _ = spec_of(data, None, None, fields, command="data scan")
    asked, shown = rendering_of(spec), as_progress(progress)
    return scan_source(spec.data, shown, targets_of(spec), spec.known_size, asked, spec.group)[0]
