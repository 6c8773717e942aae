"""`tlkit backbones`, `data` and `schema`: what there is to choose from."""

from __future__ import annotations

import json

import click

from tlkit.cli.examples import examples
from tlkit.cli.prepare import prepare
from tlkit.cli.preview import preview
from tlkit.cli.quiet import import_tensorflow
from tlkit.cli.scan import scan
from tlkit.errors import BackboneError
from tlkit.progress import Progress


@click.command(
    epilog=examples(
        "tlkit backbones",
        "tlkit backbones MobileNetV2",
        "tlkit backbones path/to/model.keras --cut conv5",
    )
)
@click.argument("name", required=False)
@click.option("--image-size", type=click.IntRange(1), metavar="N", help="Count work at this size.")
@click.option("--cut", metavar="LAYER", help="Where a model of your own ends (backbone.cut).")
def backbones(name: str | None, image_size: int | None, cut: str | None) -> None:
    """List the pretrained networks; with NAME its blocks and layers.

    NAME may be a model of your own: path/to/model.keras, or module:function.
    """
    for option, value in (("--image-size", image_size), ("--cut", cut)):
        if name is None and value is not None:
            raise BackboneError(
                f"{option}: has no effect on the list of all. Allowed: with NAME. Received: {value}"
            )
    progress = Progress()
    if name is None:
        _show_catalog(progress)
    else:
        _show_backbone(name, image_size, cut, progress)


def _show_catalog(progress: Progress) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from tlkit.backbones.catalog import CATALOG

    columns = ("backbone", "parameters", "size", "least", "top-1", "blocks", "norm")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for row in CATALOG.values():
        table.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.default_size}",
            f"{row.min_size}",
            f"{row.top1:.1f}%",
            str(len(row.blocks)),
            row.normalisation,
        )
    progress.console.print(table)
    progress.say("", "size, least: pixels a side, default and minimum; top-1: accuracy on ImageNet")


def _build(name: str, size: int | None, cut: str | None):
    from tlkit.backbones.catalog import is_given, lookup

    if is_given(name):
        import_tensorflow()
        from tlkit.backbones.own.user_model import build_user_model, open_user_model

        return build_user_model(open_user_model(name, None, size), cut)
    row = lookup(name)
    if cut is not None:
        raise BackboneError(f"--cut: belongs to a model of your own. Received: {cut} with {name}")
    import_tensorflow()
    from tlkit.backbones.build import build_backbone

    return build_backbone(name, size or row.default_size, "none")


def _show_backbone(name: str, size: int | None, cut: str | None, progress: Progress) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    built = _build(name, size, cut)
    import keras

    from tlkit.backbones.cost import block_costs, layer_costs

    size = built.inputs.shape[1]
    costs = layer_costs(keras.Model(built.inputs, built.features))
    table = Table("block", "", "layer", "output", "weights", "M adds", box=SIMPLE_HEAD)
    for column in table.columns:
        column.overflow = "fold"
    for index, layer in enumerate(built.layers):
        first = index == 0 or built.layers[index - 1].block != layer.block
        if first and index:
            table.add_section()
        cost = costs[layer.name]
        shape = "x".join(str(side) for side in cost.shape[1:])
        weights = f"{layer.parameters:,}" if layer.parameters else ""
        adds = f"{cost.multiply_adds / 1e6:,.2f}" if cost.multiply_adds else ""
        table.add_row(layer.block if first else "", str(index), layer.name, shape, weights, adds)
    progress.console.print(table)
    columns = ("block", "layers", "weights", "M adds", "weights below", "work below")
    blocks = Table(*columns, box=SIMPLE_HEAD)
    for block in block_costs(built.layers, costs):
        blocks.add_row(
            block.block,
            str(block.layers),
            f"{block.parameters:,}",
            f"{block.multiply_adds / 1e6:,.2f}",
            f"{block.parameters_below:.1%}",
            f"{block.multiply_adds_below:.1%}",
        )
    progress.console.print(blocks)
    total = sum(cost.multiply_adds for cost in costs.values())
    progress.say("size", f"{size} pixels a side: {total / 1e6:,.0f} M multiply-adds")
    progress.say("", "M adds: millions of multiply-adds an image; below: the share of all that")
    progress.say("", "--freeze until=BLOCK freezes")


@click.group(
    epilog=examples(
        "tlkit data scan flowers/",
    )
)
def data() -> None:
    """Look at a data set before training, or prepare a large one."""


data.add_command(prepare)
data.add_command(preview)


data.add_command(scan)


@click.command(
    epilog=examples(
        "tlkit schema > tlkit.schema.json",
    )
)
def schema() -> None:
    """Print every option of a recipe as JSON schema, for editors."""
    from tlkit.spec.run import RunSpec

    click.echo(json.dumps(RunSpec.model_json_schema(), indent=2))
