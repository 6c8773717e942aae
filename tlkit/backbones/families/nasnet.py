"""NASNet (Zoph et al. 2017): each cell reads the outputs of the two cells before it."""

from __future__ import annotations

from tlkit.backbones.families.row import STORAGE, Backbone, Blocks, WeightsFile


def _blocks(cells: int) -> Blocks:
    """Return stem, two reduction cells, then three times `cells` normal cells."""
    blocks = [("stem", "stem_(conv|bn)1"), ("stem_1", ".*_stem_1"), ("stem_2", ".*_stem_2")]
    for start in (0, cells, 2 * cells):
        if start:
            blocks.append((f"reduce_{start}", f".*_reduce_{start}"))
        first = start + 1 if start else 0
        # A layer's name ends in its cell's number; so do those of the other kinds of cell, and
        # those of the layers that Keras numbers (activation_12).
        blocks += [
            (f"cell_{n}", rf"(adjust|normal|separable_conv)_.*(?<!stem)(?<!reduce)_{n}")
            for n in range(first, first + cells)
        ]
    return tuple(blocks)


def _nasnet(
    kind: str,
    size: int,
    cells: int,
    parameters: int,
    top1: float,
    hashes: tuple[str, str],
) -> Backbone:
    name = kind.lower()
    folder = f"{STORAGE}/nasnet"
    return Backbone(
        f"NASNet{kind}",
        f"keras.applications:NASNet{kind}",
        "nasnet",
        "tf",
        size,
        32,
        _blocks(cells),
        parameters,
        top1,
        unnamed="consumer",
        tail=r"activation(_\d+)?",
        weights=(
            WeightsFile(f"nasnet_{name}.h5", f"{folder}/NASNet-{name}.h5", True, hashes[0]),
            WeightsFile(
                f"nasnet_{name}_no_top.h5", f"{folder}/NASNet-{name}-no-top.h5", False, hashes[1]
            ),
        ),
    )


ROWS = (
    _nasnet(
        "Mobile", 224, 4, 4_269_716, 74.4,
        ("020fb642bf7360b370c678b08e0adf61", "1ed92395b5b598bdda52abe5c0dbfd63"),
    ),
    _nasnet(
        "Large", 331, 6, 84_916_818, 82.5,
        ("11577c9a518f0070763c2b964a382f17", "d81d89dc07e6e56530c4e77faddd61b5"),
    ),
)  # fmt: skip
