"""The `tlkit` command: its sub-commands are imported when they are named."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

import tlkit
from tlkit.cli.examples import examples
from tlkit.errors import (
    FULL,
    DiskFullError,
    OutOfMemoryError,
    OutputError,
    TlkitError,
    printable,
)

COMMANDS = {
    "quickstart": ("tlkit.cli.quickstart", "Train on embedded images, no questions asked."),
    "train": ("tlkit.cli.train", "Train on your images and test the result."),
    "plan": ("tlkit.cli.train", "Say what train would do, and why; runs nothing."),
    "compare": ("tlkit.cli.compare", "Say which of several backbones suits your images."),
    "compare-runs": ("tlkit.cli.compare_runs", "Compare finished runs on the same images."),
    "lr-find": ("tlkit.cli.lrfind", "Find a learning rate for fine-tuning, by a range test."),
    "evaluate": ("tlkit.cli.use", "Measure a run on its test part, or on other data."),
    "explain": ("tlkit.cli.explain", "Show where in an image an answer comes from."),
    "report": ("tlkit.cli.report", "Write a run's report: one HTML file to look at."),
    "predict": ("tlkit.cli.use", "Label images with a run or an export."),
    "pack": ("tlkit.cli.pack", "Write a run into one zip file, for somebody else."),
    "export": ("tlkit.cli.export", "Write a run's model for serving, and check it."),
    "serve": ("tlkit.cli.serve", "Answer images over HTTP, with a page to try it."),
    "bench": ("tlkit.cli.export", "Time exports side by side, and evaluate them."),
    "backbones": ("tlkit.cli.catalog", "List the pretrained networks, or one's blocks."),
    "weights": ("tlkit.cli.weights", "List, fetch and verify files of ImageNet weights."),
    "data": ("tlkit.cli.catalog", "Look at a data set, or prepare a large one."),
    "cache": ("tlkit.cli.cache", "List or clear the frozen features kept on disk."),
    "schema": ("tlkit.cli.catalog", "Print every option of a recipe as JSON schema."),
}
BUG, INTERRUPTED, PIPE_CLOSED = 1, 130, 141
"""Exit codes; the last is what a shell gives of a process that SIGPIPE ends."""


def _in_utf8() -> None:
    """Start Python anew in its UTF-8 mode (PEP 540) where the locale is not UTF-8.

    There a class folder `grün` would have another name, and a run would not be found again.
    """
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8") and os.name == "posix":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _escaping() -> None:
    """Have what a stream cannot write (PYTHONIOENCODING=latin-1, say) written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """End quietly where the reader of a pipe has gone: `tlkit data scan flowers/ | head -1`.

    Raises:
        OutputError: standard output takes no more, whatever else that has led to.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        _drop()
        sys.exit(PIPE_CLOSED)
    except (DiskFullError, OSError) as error:
        # Unbuffered, nothing is left that a flush would fail at: one more line is tried.
        if isinstance(error, DiskFullError) or error.errno in FULL:
            _flush("\n")
        raise


def _flush(more: str = "") -> None:
    try:
        if sys.stdout is not None:  # closed by the shell: `>&-`
            if more:
                sys.stdout.write(more)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop()
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from error


def _drop() -> None:
    """Leave what is still in the buffer: it would be tried, and complained of, at the very end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


SMALLER = "fewer or smaller images, a smaller --batch-size, --image-size or backbone"


class _LazyGroup(click.Group):
    """Keeps `tlkit --help` quick: TensorFlow takes seconds to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[name][0]), name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS:
            from tlkit.errors import did_you_mean

            raise click.UsageError(
                f"no such command: {args[0]!r}.{did_you_mean(args[0], COMMANDS)} "
                f"Allowed: {', '.join(COMMANDS)}"
            )
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:
        """Run as a program, with names of files and text as UTF-8 whatever the locale is."""
        if args is None:
            _in_utf8()
            _escaping()
        return super().main(args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            with _written():
                return super().make_context(*args, **extra)
        except OutputError as error:
            _say(error)
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context):
        """Run the command; a `TlkitError` becomes one message and its exit code."""
        try:
            with _written():
                return super().invoke(ctx)
        except TlkitError as error:
            _say(error)
            ctx.exit(error.exit_code)
        except Exception as error:
            from tlkit.compute.memory import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            _say(f"out of memory in {ctx.invoked_subcommand}. Try {SMALLER}")
            ctx.exit(OutOfMemoryError.exit_code)
        except KeyboardInterrupt:
            click.echo("tlkit: interrupted; nothing was written", err=True)
            ctx.exit(INTERRUPTED)


def _say(message: object) -> None:
    lines = [printable(line) for line in f"tlkit: {message}".split("\n")]
    with contextlib.suppress(OSError):  # it may be as full
        click.echo("\n".join(lines), err=True)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "tlkit quickstart",
        "tlkit train flowers/",
        "tlkit predict runs/flowers-mobilenetv2-0001 photo.jpg",
    ),
)
@click.version_option(tlkit.__version__, prog_name="tlkit")
def main() -> None:
    """Transfer learning with keras.applications on your own images.

    Completion of commands and options by the tab key, in the shell's start file:

    \b
    bash   eval "$(_TLKIT_COMPLETE=bash_source tlkit)"
    zsh    eval "$(_TLKIT_COMPLETE=zsh_source tlkit)"
    fish   _TLKIT_COMPLETE=fish_source tlkit | source
    """
    # A batch system ends a job with SIGTERM: treated as Ctrl-C, it leaves a run to go on with.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
