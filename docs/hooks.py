"""Pages that are made from the code each time the guide is built: commands and spec."""

from __future__ import annotations

from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from tlkit.cli.main import COMMANDS, main
from tlkit.spec.run import RunSpec


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `reference/` (see https://www.mkdocs.org/user-guide/plugins/#on_files)."""
    for name, text in (("commands", commands()), ("spec", spec())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> str:
    """Return every command with its `--help`."""
    context = click.Context(main, info_name="tlkit")
    pages = ["# Command line", "What `--help` says of each command."]
    for name in COMMANDS:
        pages += _help(main.get_command(context, name), name, context)
    return "\n\n".join(pages) + "\n"


def _help(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=96)
    pages = [f"## {context.command_path}", f"```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            pages += _help(command.get_command(context, sub), sub, context)
    return pages


def spec() -> str:
    """Return every field of a recipe, which `--set` and Python's keyword arguments take too."""
    schema = RunSpec.model_json_schema()
    pages = [
        "# The spec",
        "Every option of a run: keys of a recipe, of `spec.yaml`, of `--set key=value`, and "
        "keyword arguments in Python. `tlkit schema` prints the same as JSON schema.",
        _table("", RunSpec, schema),
    ]
    for name, field in RunSpec.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            pages += [f"## {name}", _table(f"{name}.", part, part.model_json_schema())]
    return "\n\n".join(pages) + "\n"


def _table(prefix: str, model: type[BaseModel], schema: dict[str, Any]) -> str:
    rows = ["| key | default | what |", "|---|---|---|"]
    for name, found in schema["properties"].items():
        part = model.model_fields[name].annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            continue
        default = found.get("default")
        shown = "" if default is None else f"`{default}`"
        text = str(found.get("description", "")).replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {shown} | {text} |")
    return "\n".join(rows)
