"""What a person sees while tlkit works: one line a step, and a bar on anything that takes long.

Everything goes through a `Progress`, so that a command can move it to standard error (`--json`)
or switch it off. In a notebook rich draws the same bars.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from tlkit.errors import printable

LABEL_WIDTH = 10

UNFOLDED = 10_000
"""Characters that a line may have in a file or a pipe: a folded path is no path."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller end: rich would end the process with exit code 1."""
        raise  # rich calls this while it handles the BrokenPipeError


class Progress:
    """Prints `label  text` lines and progress bars; silent with `quiet=True`."""

    def __init__(self, quiet: bool = False, stderr: bool = False):
        # No markup: a class may be called `[/b]`, or `:cat:`.
        plain = {"highlight": False, "markup": False, "emoji": False}
        self.console = _Console(stderr=stderr, quiet=quiet, soft_wrap=True, **plain)
        if not (self.console.is_terminal or self.console.is_jupyter or "COLUMNS" in os.environ):
            self.console.width = UNFOLDED

    def say(self, label: str, text: str) -> None:
        """Print one line; `label` is the step's name, at most ten characters."""
        # A stream that is not UTF-8 gets escapes for what it has no characters for.
        line = f"{label:<{LABEL_WIDTH}}{printable(text)}"
        encoding = self.console.encoding
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        self.console.print(line, markup=False)

    @contextmanager
    def bar(self, label: str, what: str, total: int) -> Iterator[Advance]:
        """Show a bar of `total` steps; call the yielded object with the steps just done."""
        columns = (
            TextColumn(f"{label:<{LABEL_WIDTH - 1}}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        # A bar redrawn into a log file is noise: there, only its last state is printed.
        with RichProgress(*columns, console=self.console, refresh_per_second=4) as bars:
            yield Advance(bars, bars.add_task(what, total=total, note=""))


class Advance:
    """One bar's handle: `advance(steps, note="...")`."""

    def __init__(self, bars: RichProgress, task: int):
        self._bars, self._task = bars, task

    def __call__(self, steps: int = 1, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._bars.update(self._task, advance=steps, **fields)


def as_progress(progress: bool | Progress) -> Progress:
    """Return the display that `progress=True`, `False` or a `Progress` asks for."""
    return progress if isinstance(progress, Progress) else Progress(quiet=not progress)
