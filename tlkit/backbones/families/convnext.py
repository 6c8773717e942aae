"""ConvNeXt (Liu et al. 2022)."""

from __future__ import annotations

from tlkit.backbones.families.row import STORAGE, Backbone, Blocks, both_files


def _blocks(depths: tuple[int, ...]) -> Blocks:
    """Return stem and blocks; layers' names start with that of the model."""
    blocks = [("stem", ".+_prestem_.*|.+_stem")]
    for stage, depth in enumerate(depths):
        for n in range(depth):
            pattern = f".+_stage_{stage}_block_{n}_.*"
            if stage and not n:
                pattern = f".+_downsampling_block_{stage - 1}|{pattern}"
            blocks.append((f"stage_{stage}_block_{n}", pattern))
    return tuple(blocks)


def _convnext(
    kind: str, depths: tuple[int, ...], parameters: int, top1: float, hashes: tuple[str, str]
) -> Backbone:
    name = f"ConvNeXt{kind}"
    return Backbone(
        name,
        f"keras.applications:{name}",
        "convnext",
        "inside",
        224,
        32,
        _blocks(depths),
        parameters,
        top1,
        normalisation="layernorm",
        tail=r"(add|layer_normalization)(_\d+)?",
        fixed={"include_preprocessing": True},
        weights=both_files(f"{STORAGE}/convnext", f"convnext_{kind.lower()}", hashes),
    )


ROWS = (
    _convnext(
        "Tiny", (3, 3, 9, 3), 27_820_128, 81.3,
        (
            "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
    ),
    _convnext(
        "Small", (3, 3, 27, 3), 49_454_688, 82.3,
        (
            "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ),
    ),
    _convnext(
        "Base", (3, 3, 27, 3), 87_566_464, 85.3,
        (
            "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ),
    ),
    _convnext(
        "Large", (3, 3, 27, 3), 196_230_336, 86.3,
        (
            "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ),
    ),
    _convnext(
        "XLarge", (3, 3, 27, 3), 348_147_968, 86.7,
        (
            "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ),
    ),
)  # fmt: skip
