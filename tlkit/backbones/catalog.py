"""The catalog: one row an application, as data; importing it imports no Keras.

A row knows its layers by name, never by index. Names and sizes were read from the constructors of
Keras 3.15 (`keras/src/applications/`); `tests/test_backbones.py` holds every row against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tlkit.errors import BackboneError, did_you_mean


@dataclass(frozen=True)
class Backbone:
    """One application.

    Attributes:
        constructor: `module:function`, with the signature of `keras.applications`.
        preprocessing: what turns RGB 0-255 into what the weights were trained on: `tf` (-1 to 1),
            `caffe` (BGR, channel means taken off), `lite` ((x - 127) / 128), or `inside` (the
            application does it itself). Source: `keras/src/applications/imagenet_utils.py`; for
            Lite, tensorflow/tpu `efficientnet/lite/efficientnet_lite_builder.py`.
        default_size: pixels a side that the weights were trained at.
        min_size: the smallest side that the constructor takes, in pixels.
        blocks: ordered (block, pattern) pairs; the pattern fully matches its layers' names.
        parameters: number of parameters without the top, for alpha 1.
        top1: ImageNet top-1 accuracy in percent, as documented by its makers.
        arguments: family arguments with the values for which ImageNet weights exist.
    """

    name: str
    constructor: str
    preprocessing: str
    default_size: int
    min_size: int
    blocks: tuple[tuple[str, str], ...]
    parameters: int
    top1: float
    batchnorm: bool = True
    arguments: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def block_of(self, layer: str) -> str | None:
        """Return the block whose pattern matches `layer`, or None for an unnamed operation."""
        for block, pattern in self.blocks:
            if re.fullmatch(pattern, layer):
                return block
        return None


@dataclass(frozen=True)
class LayerInfo:
    """What a freeze plan needs to know of one layer of a backbone."""

    name: str
    block: str
    parameters: int
    batchnorm: bool = False


def _numbered(names: Iterable[object], pattern: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), pattern.format(name)) for name in names)


_MOBILENET = (
    ("stem", "conv1.*"),
    *((f"block_{n}", rf"conv_(dw|pw)_{n}(_bn|_relu)?|conv_pad_{n}") for n in range(1, 14)),
)
_MOBILENET_V2 = (
    ("stem", "Conv1|bn_Conv1|Conv1_relu"),
    ("expanded_conv", "expanded_conv_.*"),
    *_numbered((f"block_{n}" for n in range(1, 17)), "{}_.*"),
    ("top", "Conv_1|Conv_1_bn|out_relu"),
)
_RESNET50 = (
    ("stem", "conv1_.*|pool1_.*"),
    *_numbered(
        (
            f"conv{stage}_block{block}"
            for stage, count in ((2, 3), (3, 4), (4, 6), (5, 3))
            for block in range(1, count + 1)
        ),
        "{}_.*",
    ),
)
_EFFICIENTNET_B0 = (
    ("stem", "rescaling.*|normalization.*|stem_.*"),
    *_numbered(
        (
            f"block{stage}{'abcd'[block]}"
            for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1), start=1)
            for block in range(count)
        ),
        "{}_.*",
    ),
    ("top", "top_.*"),
)
_VGG16 = _numbered((f"block{n}" for n in range(1, 6)), "{}_.*")

_ALPHAS_V1 = {"alpha": (0.25, 0.5, 0.75, 1.0)}
_ALPHAS_V2 = {"alpha": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}

# Parameters and top-1: https://keras.io/api/applications/ ; Lite0: the README of
# tensorflow/tpu `models/official/efficientnet/lite`.
CATALOG: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            "MobileNet", "keras.applications:MobileNet", "tf", 224, 32,
            _MOBILENET, 3_228_864, 70.4, arguments=_ALPHAS_V1,
        ),
        Backbone(
            "MobileNetV2", "keras.applications:MobileNetV2", "tf", 224, 32,
            _MOBILENET_V2, 2_257_984, 71.3, arguments=_ALPHAS_V2,
        ),
        Backbone(
            "ResNet50", "keras.applications:ResNet50", "caffe", 224, 32,
            _RESNET50, 23_587_712, 74.9,
        ),
        Backbone(
            "VGG16", "keras.applications:VGG16", "caffe", 224, 32,
            _VGG16, 14_714_688, 71.3, batchnorm=False,
        ),
        Backbone(
            "EfficientNetB0", "keras.applications:EfficientNetB0", "inside", 224, 32,
            _EFFICIENTNET_B0, 4_049_571, 77.1,
        ),
        Backbone(
            "EfficientNetLite0", "tlkit.backbones.efficientnet_lite:EfficientNetLite0", "lite",
            224, 32, _EFFICIENTNET_B0, 3_413_024, 75.1,
        ),
    )
}  # fmt: skip


def lookup(name: str) -> Backbone:
    """Return the row of `name`.

    Raises:
        BackboneError: there is no such row; the message names the nearest one.
    """
    if name not in CATALOG:
        raise BackboneError(
            f"Unknown backbone.{did_you_mean(name, CATALOG)} Allowed: {', '.join(CATALOG)}. "
            f"Received: {name!r}"
        )
    return CATALOG[name]
