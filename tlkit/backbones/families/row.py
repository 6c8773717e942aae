"""What a row of the catalog is; importing it imports no Keras."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications"
"""Where Keras downloads from (`keras/src/applications/*.py`)."""

Blocks = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WeightsFile:
    """One file of ImageNet weights.

    Attributes:
        name: its name in the folder in which Keras looks for it.
        url: where Keras downloads it from.
        top: whether it holds the classifier of 1,000 classes.
        hash: MD5 (32 digits) or SHA-256 (64 digits) as Keras states it; None where it states none.
        arguments: the family arguments it belongs to; `size` is the side of the input, for the
            families that have a file for each.
    """

    name: str
    url: str
    top: bool
    hash: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backbone:
    """One application.

    Attributes:
        constructor: `module:function`, with the signature of `keras.applications`.
        module: name of the module that has its `preprocess_input`, such as `mobilenet_v2`.
        preprocessing: what turns RGB 0-255 into what the weights were trained on: `tf` (-1 to 1),
            `caffe` (BGR, channel means taken off), `torch` (mean and standard deviation), `lite`
            ((x - 127) / 128), or `inside` (the application does it itself). Source:
            `keras/src/applications/imagenet_utils.py`; for Lite, tensorflow/tpu
            `efficientnet/lite/efficientnet_lite_builder.py`.
        default_size: pixels a side that the weights were trained at.
        min_size: the smallest side that the constructor takes, in pixels.
        blocks: ordered (block, pattern) pairs; the pattern fully matches its layers' names. An
            empty pattern: the layers before the first branch of the block after it.
        unnamed: where a layer belongs that Keras numbers instead of naming (`activation_3`):
            `previous`, to the block of the layer before it, or `consumer`, to the block that
            takes its output.
        tail: pattern of the numbered layers that may follow the last named one.
        parameters: number of parameters without the top, with default family arguments.
        top1: ImageNet top-1 accuracy in percent, as documented by its makers.
        normalisation: `batchnorm`, `layernorm` or `none`.
        arguments: family arguments with the values for which ImageNet weights exist.
        fixed: family arguments that are always passed, so that the row holds.
        sizes: sides of the input for which there are separate weights; empty: one file for all.
        weights: every file of ImageNet weights.
    """

    name: str
    constructor: str
    module: str
    preprocessing: str
    default_size: int
    min_size: int
    blocks: Blocks
    parameters: int
    top1: float
    normalisation: str = "batchnorm"
    unnamed: str = "previous"
    tail: str = ""
    arguments: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    weights: tuple[WeightsFile, ...] = ()

    @property
    def batchnorm(self) -> bool:
        """Whether it has BatchNorm layers."""
        return self.normalisation == "batchnorm"

    def block_of(self, layer: str) -> str | None:
        """Return the block whose pattern matches `layer`, or None for a numbered one."""
        match = self._patterns.fullmatch(layer)
        return self.blocks[int(match.lastgroup.removeprefix("b"))][0] if match else None

    @functools.cached_property
    def _patterns(self) -> re.Pattern[str]:
        # One expression for all blocks: the catalog's 1,400 patterns would overflow re's cache.
        named = [f"(?P<b{i}>{p})" for i, (_, p) in enumerate(self.blocks) if p]
        return re.compile("|".join(named))


@dataclass(frozen=True)
class LayerInfo:
    """What a freeze plan needs to know of one layer of a backbone."""

    name: str
    block: str
    parameters: int
    batchnorm: bool = False


def numbered(names: Iterable[object], pattern: str) -> Blocks:
    """Return a block for each of `names`, which stands for `{}` in `pattern`."""
    return tuple((str(name), pattern.format(name)) for name in names)


def both_files(
    folder: str, name: str, hashes: tuple[str, str], notop: str = "_notop", **arguments: Any
) -> tuple[WeightsFile, WeightsFile]:
    """Return the files with and without top, named `NAME.h5` and `NAME_notop.h5`."""
    files = []
    for top, digest in zip((True, False), hashes, strict=True):
        file = f"{name}{'' if top else notop}.h5"
        files.append(WeightsFile(file, f"{folder}/{file}", top, digest, arguments))
    return tuple(files)
