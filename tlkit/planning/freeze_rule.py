"""Freeze rules as text: what can be read, and what the catalog alone tells to be wrong."""

from __future__ import annotations

import re

from tlkit.backbones.catalog import Backbone
from tlkit.errors import FreezeError, did_you_mean

FORMS = "auto, all, none, until=BLOCK_OR_LAYER, last=N, layers=A:B, re=PATTERN"


def check_rule(rule: str, row: Backbone | None) -> None:
    """Check a freeze rule as far as the catalog tells, which needs no network to be built.

    Args:
        row: the backbone's; None: a model of the user's own, of which nothing is known yet.

    Raises:
        FreezeError: a part cannot be read, or can match nothing.
    """
    blocks = [block for block, _ in row.blocks] if row else None
    for part in rule.split(","):
        key, value = read_part(part.strip().removeprefix("-"), rule)
        if key == "last":
            last_blocks(value, len(blocks) if blocks else 10**9, rule)
        elif key == "layers":
            slice_bounds(value, rule)
        elif key == "re":
            compiled(value, rule)
        elif key == "until" and row and not _may_be_there(value, row):
            raise no_such(value, blocks or [], [], rule)


def _may_be_there(name: str, row: Backbone) -> bool:
    """Tell whether a network of `row` may have a block or layer of this name."""
    known = name in dict(row.blocks) or row.block_of(name) is not None
    return known or _NUMBERED.fullmatch(name) is not None


_NUMBERED = re.compile(
    r"image|preprocess\w*|(activation|add|average_pooling2d|batch_normalization|concatenate|(depthwise_|separable_)?"
    r"conv2d|cropping2d|custom_scale_layer|dense|dropout|get_item|global_average_pooling2d|"
    r"input_layer|lambda|layer_normalization|max_pooling2d|multiply|normalization|re_lu|relu|"
    r"rescaling|reshape|sequential|subtract|zero_padding2d)(_\d+)?"
)
"""Names of layers that belong to no pattern: those that Keras gives by their class where an
application gives none, and tlkit's own in front of it."""


def read_part(part: str, rule: str) -> tuple[str, str]:
    """Return the key of a part of a rule, such as `until`, and its value.

    Raises:
        FreezeError: it has none of the forms that there are.
    """
    key, equals, value = part.partition("=")
    if part in ("all", "none") or (equals and key in ("until", "last", "layers", "re")):
        return key, value
    if part.isdecimal():
        raise FreezeError(
            f"freeze rule {rule!r}: {part} of what? Allowed: layers=:{part[:9]} (the first "
            f"{part[:9]} layers), last={part[:9]} (all but the last {part[:9]} blocks)"
        )
    near = did_you_mean(key, ["all", "none", "until", "last", "layers", "re"])
    raise FreezeError(
        f"freeze rule {rule!r}: cannot read {part!r}.{near} Allowed: {FORMS}, joined by commas"
    )


def no_such(value: str, blocks: list[str], names: list[str], rule: str) -> FreezeError:
    """Return the error for a name that no block or layer has; the nearest one is in it."""
    near = did_you_mean(value, blocks) or did_you_mean(value, names)
    return FreezeError(
        f"freeze rule {rule!r}: no block or layer is called {value!r}.{near} "
        f"Blocks: {', '.join(blocks)}"
    )


def last_blocks(value: str, blocks: int, rule: str) -> int:
    """Return N of `last=N`, in a network of so many blocks."""
    if not re.fullmatch(r"\d{1,9}", value) or int(value) >= blocks:
        raise FreezeError(
            f"freeze rule {rule!r}: last=N takes a number of blocks. "
            f"Allowed: 0 to {blocks - 1}. Received: {value!r}"
        )
    return int(value)


def slice_bounds(value: str, rule: str) -> tuple[int | None, int | None]:
    """Return A and B of `layers=A:B`."""
    if not re.fullmatch(r"(-?\d{1,9})?:(-?\d{1,9})?", value):
        raise FreezeError(
            f"freeze rule {rule!r}: layers=A:B takes a Python slice such as layers=0:100. "
            f"Received: {value!r}"
        )
    start, stop = (int(text) if text else None for text in value.split(":"))
    return start, stop


def compiled(value: str, rule: str) -> re.Pattern[str]:
    """Return the expression of `re=PATTERN`."""
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise FreezeError(
            f"freeze rule {rule!r}: {value!r} is not a regular expression: {error}"
        ) from error
