"""`tlkit backbones`, `data scan` and `schema`: what there is to choose from."""

from __future__ import annotations

import json
from typing import Any

import click

from tlkit.cli.options import output
from tlkit.cli.quiet import import_tensorflow
from tlkit.progress import Progress


@click.command(epilog="Examples: tlkit backbones   |   tlkit backbones MobileNetV2")
@click.argument("name", required=False)
def backbones(name: str | None) -> None:
    """List the pretrained networks; with NAME its blocks and layers."""
    from rich.table import Table

    from tlkit.backbones.catalog import CATALOG, lookup

    progress = Progress()
    if name is None:
        table = Table("backbone", "parameters", "size", "smallest", "ImageNet top-1", "blocks")
        for row in CATALOG.values():
            table.add_row(
                row.name,
                f"{row.parameters:,}",
                f"{row.default_size}",
                f"{row.min_size}",
                f"{row.top1:.1f}%",
                str(len(row.blocks)),
            )
        progress.console.print(table)
        return
    row = lookup(name)
    import_tensorflow()
    from tlkit.backbones.build import build_backbone

    built = build_backbone(name, row.default_size, "none")
    table = Table("block", "index", "layer", "parameters")
    for index, layer in enumerate(built.layers):
        first = index == 0 or built.layers[index - 1].block != layer.block
        if first and index:
            table.add_section()
        shown = f"{layer.parameters:,}" if layer.parameters else ""
        table.add_row(layer.block if first else "", str(index), layer.name, shown)
    progress.console.print(table)


@click.group(epilog="Example: tlkit data scan flowers/")
def data() -> None:
    """Look at a data set before training."""


@data.command(epilog="Example: tlkit data scan flowers/")
@click.argument("source", metavar="DATA")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def scan(source: str, as_json: bool) -> None:
    """Say what is in DATA: pictures of each class, broken files, duplicates."""
    with output(as_json) as (progress, show):
        import_tensorflow()
        from tlkit.data.scan import scan_summary

        summary = scan_summary(source, progress)
        if as_json:
            show(summary)
        else:
            _show_scan(summary, progress)


def _show_scan(summary: dict[str, Any], progress: Progress) -> None:
    from rich.table import Table

    parts = list(summary["classes"])
    labels = sorted({label for counts in summary["classes"].values() for label in counts})
    table = Table("class", *parts)
    for label in labels:
        table.add_row(label, *(str(summary["classes"][part].get(label, 0)) for part in parts))
    progress.console.print(table)
    for item in summary["left_out"]:
        progress.say("left out", f"{item['id']}: {item['reason']}")
    for group in summary["duplicates"]:
        progress.say("twice", ", ".join(group))


@click.command(epilog="Example: tlkit schema > tlkit.schema.json")
def schema() -> None:
    """Print every option of a recipe as JSON schema, for editors."""
    from tlkit.spec import RunSpec

    click.echo(json.dumps(RunSpec.model_json_schema(), indent=2))
