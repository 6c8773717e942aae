"""What a person sees while tlkit works: one line a step, and a bar on anything that takes long.

Everything goes through a `Progress`, so that a command can move it to standard error (`--json`)
or switch it off. In a notebook rich draws the same bars.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from tlkit.errors import printable

LABEL_WIDTH = 10

UNFOLDED = 10_000
"""Characters that a line may have in a file or a pipe: a folded path is no path."""


LINE_EVERY = 30.0
"""Seconds between two lines of a bar where there is no terminal: a file shows that work goes on."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller end: rich would end the process with exit code 1."""
        raise  # rich calls this while it handles the BrokenPipeError


class Progress:
    """Prints `label  text` lines and progress bars; silent with `quiet=True`.

    Attributes:
        live: whether bars are drawn, and drawn anew: in a terminal or a notebook, not in a file.
        verbose: whether `detail` prints.
    """

    def __init__(self, quiet: bool = False, stderr: bool = False, verbose: bool = False):
        self.verbose = verbose
        # No markup: a class may be called `[/b]`, or `:cat:`.
        plain = {"highlight": False, "markup": False, "emoji": False}
        self.console = _Console(stderr=stderr, quiet=quiet, soft_wrap=True, **plain)
        self.live = self.console.is_terminal or self.console.is_jupyter
        if not (self.live or "COLUMNS" in os.environ):
            self.console.width = UNFOLDED

    def say(self, label: str, text: str) -> None:
        """Print one line; `label` is the step's name, at most ten characters."""
        # A stream that is not UTF-8 gets escapes for what it has no characters for.
        line = f"{label:<{LABEL_WIDTH}}{printable(text)}"
        encoding = self.console.encoding
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        self.console.print(line, markup=False)

    def detail(self, label: str, text: str) -> None:
        """Print a line that only `verbose=True` asks for."""
        if self.verbose:
            self.say(label, text)

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
        # A bar redrawn into a log file is noise: there, its last state is printed, and a line now
        # and then before.
        with RichProgress(*columns, console=self.console, refresh_per_second=4) as bars:
            task, say = bars.add_task(what, total=total, note=""), None
            if not self.live:
                say = functools.partial(self.say, label)
            yield Advance(bars, task, say)


class Advance:
    """One bar's handle: `advance(steps, note="...")`.

    Args:
        say: prints a line where the bar itself is not drawn.
    """

    def __init__(self, bars: RichProgress, task: int, say: Callable[[str], None] | None = None):
        self._bars, self._task, self._say = bars, task, say
        self._said = time.monotonic()

    def __call__(self, steps: int = 1, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._bars.update(self._task, advance=steps, **fields)
        if self._say and time.monotonic() - self._said > LINE_EVERY:
            self._said = time.monotonic()
            task = self._bars.tasks[0]
            self._say(f"{task.description} {task.completed:,.0f}/{task.total:,.0f}")


def as_progress(progress: bool | Progress) -> Progress:
    """Return the display that `progress=True`, `False` or a `Progress` asks for."""
    return progress if isinstance(progress, Progress) else Progress(quiet=not progress)
