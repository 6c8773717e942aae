"""The `tlkit` command: its sub-commands are imported when they are named."""

from __future__ import annotations

import importlib
import signal

import click

import tlkit
from tlkit.errors import TlkitError, printable

COMMANDS = {
    "quickstart": ("tlkit.cli.quickstart", "Train on embedded pictures, no questions asked."),
    "train": ("tlkit.cli.train", "Train on your pictures and test the result."),
    "plan": ("tlkit.cli.train", "Say what train would do, and why; runs nothing."),
    "compare": ("tlkit.cli.compare", "Say which of several backbones suits your pictures."),
    "lr-find": ("tlkit.cli.lrfind", "Find a learning rate for fine-tuning, by a range test."),
    "evaluate": ("tlkit.cli.use", "Measure a run on its test part, or on other data."),
    "predict": ("tlkit.cli.use", "Label pictures with a run or an export."),
    "export": ("tlkit.cli.use", "Write a run's model as a SavedModel, and check it."),
    "backbones": ("tlkit.cli.catalog", "List the pretrained networks, or one's blocks."),
    "weights": ("tlkit.cli.weights", "List, fetch and verify files of ImageNet weights."),
    "data": ("tlkit.cli.catalog", "Look at a data set, or prepare a large one."),
    "cache": ("tlkit.cli.cache", "List or clear the frozen features kept on disk."),
    "schema": ("tlkit.cli.catalog", "Print every option of a recipe as JSON schema."),
}
BUG, INTERRUPTED = 1, 130


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

    def invoke(self, ctx: click.Context):
        """Run the command; a `TlkitError` becomes one message and its exit code."""
        try:
            return super().invoke(ctx)
        except TlkitError as error:
            lines = [printable(line) for line in f"tlkit: {error}".split("\n")]
            click.echo("\n".join(lines), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("tlkit: interrupted; nothing was written", err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: tlkit quickstart   |   tlkit train flowers/   |   "
    "tlkit predict runs/flowers-mobilenetv2-0001 photo.jpg",
)
@click.version_option(tlkit.__version__, prog_name="tlkit")
def main() -> None:
    """Transfer learning with keras.applications on your own pictures."""
    # A batch system ends a job with SIGTERM: treated as Ctrl-C, it leaves a run to go on with.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
