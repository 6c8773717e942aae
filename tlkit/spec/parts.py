"""The parts of a `RunSpec`: backbone, head, table, optimizer; and how an option is declared."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tlkit.backbones.catalog import CATALOG, GIVEN, catalog_name, is_given
from tlkit.errors import received
from tlkit.spec.checks import OWN


def option(
    default: Any,
    description: str,
    *,
    unit: str = "",
    source: str = "tlkit",
    enum: list[str] | None = None,
    other: str = "",
    **limits: Any,
) -> Any:
    """Declare one option with its description, unit, default and the source of that default."""
    extra = {"unit": unit, "source": source, "enum": enum}
    if other:
        extra |= {"enum": None, "anyOf": [{"enum": enum}, {"pattern": f"^({other})$"}]}
    extra = {key: value for key, value in extra.items() if value}
    factory = {"default_factory": default} if callable(default) else {"default": default}
    return Field(description=description, json_schema_extra=extra, **factory, **limits)


class Part(BaseModel):
    """Options that stand together; numbers are finite, and text is what files can hold."""

    model_config = ConfigDict(
        extra="forbid", validate_default=False, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*")
    @classmethod
    def _whole_text(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and "\0" in text:  # no path, column or layer has one
                raise ValueError(f"holds a NUL character. Received: {received(text)}")
            if isinstance(text, str) and _HALF.search(text):
                raise ValueError(f"holds half a character. Received: {received(text)}")
        return value


_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates, but those by which Python carries the bytes of a file name (PEP 383)."""


def as_path(text: str) -> str:
    """Return a path with the home folder for a leading `~/`, which a shell replaces only where a
    word begins: not in `--set out=~/runs`, nor in a recipe.

    A name that this locale cannot write is taken for UTF-8, as the one who wrote it saw it.

    Raises:
        ValueError: the text is empty. (pydantic's own `min_length` refuses names that are not
            UTF-8.)
    """
    if not text:
        raise ValueError("is empty. Allowed: a path. Received: ''")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        text = os.fsdecode(text.encode("utf-8", "surrogatepass"))
    return os.path.expanduser(text) if text.startswith("~/") else text


PathText = Annotated[str, AfterValidator(as_path)]
"""A path, or what stands for one."""


_UNITS = {"s": 1, "m": 60, "h": 3600}


def in_seconds(value: Any) -> Any:
    """Return `"90s"`, `"2m"` or `"1.5h"` in seconds; a number stays as it is.

    Raises:
        ValueError: other text.
    """
    if not isinstance(value, str):
        return value
    number, unit = (value[:-1], value[-1]) if value[-1:] in _UNITS else (value, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError:
        raise ValueError(
            f"is a time. Allowed: seconds, or a number with s, m or h (90s, 2m, 1h). "
            f"Received: {value!r}"
        ) from None


class BackboneSpec(Part):
    """The pretrained network."""

    name: Annotated[PathText, AfterValidator(catalog_name)] = option(
        "MobileNetV2",
        "The application (`tlkit backbones` lists them), or a model of your own: "
        "path/to/model.keras, or module:function, which is called without arguments.",
        source="small and quick on a CPU (Sandler et al. 2018)",
        enum=list(CATALOG),
        other=GIVEN,
    )
    weights: PathText = option(
        "imagenet",
        "`imagenet`, `none` (random), or the path of a weights file; a model of your own brings "
        "its weights: `own`, or `none` if they are random and nothing in it is worth freezing.",
        source="keras.applications",
    )
    alpha: float | None = option(
        None,
        "Width multiplier of MobileNet and MobileNetV2; empty: 1.",
        source="keras.applications",
        gt=0,
    )
    cut: str | None = option(
        None,
        "In a model of your own, the layer whose output (4-dimensional) the head gets; empty: the "
        "last such layer before global pooling.",
        min_length=1,
    )
    preprocessing: Literal["none", "tf", "caffe", "torch", "lite"] | None = option(
        None,
        "What turns RGB 0-255 into the input of a model of your own: none (it takes RGB 0-255), "
        "tf (-1 to 1), caffe (BGR less the means of ImageNet), torch (0 to 1 less mean, by "
        "deviation), lite ((x - 127) / 128); empty: none.",
        source="keras/src/applications/imagenet_utils.py",
    )

    @model_validator(mode="after")
    def _own_weights(self) -> BackboneSpec:
        if self.given and "weights" not in self.model_fields_set:
            self.weights = OWN
        return self

    @property
    def given(self) -> bool:
        """Whether it is a model of the user's own."""
        return is_given(self.name)

    @property
    def label(self) -> str:
        """A short name, for folders."""
        return Path(self.name).stem if self.name.endswith(".keras") else self.name


class HeadSpec(Part):
    """What is put in the place of the FC/softmax top."""

    pooling: Literal["avg", "max", "concat", "gem"] = option(
        "avg",
        "Global pooling of the last feature map: average, maximum, both side by side, or the "
        "generalised mean.",
        source="Lin et al. 2013, section 3.2; gem: Radenovic et al. 2019",
    )
    hidden: list[Annotated[int, Field(gt=0, le=65_536)]] = option(
        list, "Units of each hidden FC layer, such as [256]; empty: a linear classifier."
    )
    activation: Literal[
        "relu", "leaky_relu", "prelu", "elu", "tanh", "sigmoid", "gelu", "swish"
    ] = option("relu", "Activation of the hidden layers.")
    batchnorm: bool = option(False, "BatchNorm between a hidden layer and its activation.")
    initializer: Literal[
        "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"
    ] = option(
        "glorot_uniform", "How kernels of the head start in fitted phases.", source="keras Dense"
    )
    l2: float = option(
        0.0, "L2 penalty on the head's kernels in fitted phases; a solved head finds its own.", ge=0
    )
    bias: Literal["frequencies", "zeros"] = option(
        "frequencies",
        "Bias of the output layer at the start: as often as each label is there, or zero.",
        source="Lin et al. 2017 (focal loss), section 4.1",
    )
    dropout: float = option(
        0.2,
        "Dropout before the classifier in fitted phases.",
        unit="share of the features, 0 to below 1",
        source="MobileNetV2's and EfficientNet-B0's own top",
        ge=0,
        lt=1,
    )
    solver: Literal["auto", "lbfgs", "fit"] = option(
        "auto",
        "How a linear head on frozen features is trained: `lbfgs` solves it as a multinomial "
        "logistic regression, `fit` by gradient steps; `auto` solves unless there are hidden "
        "layers, or the head is all that is trained and epochs, augmentation or callbacks are "
        "given.",
        source="Kornblith et al. 2019, appendix A.4",
    )
    strength: Literal["auto", "validation", "folds"] = option(
        "auto",
        "How the L2 strength of a solved head is chosen: by validation loss, or by stratified "
        "cross-validation over training and validation part; auto: folds where the validation part "
        "is tiny.",
        source="tlkit/planning/rules.py",
    )
    refit: bool = option(
        False,
        "Solve the head once more on training and validation part together, with the strength "
        "chosen, where nothing is trained after it; validation figures are those from before.",
    )


class DecoderSpec(Part):
    """What makes a map of classes of feature maps at several strides."""

    kind: Literal["unet", "deconv"] = option(
        "unet",
        "unet: the maps at all strides, brought to few channels, are joined from the coarsest to "
        "the finest; deconv: from the coarsest alone, each value put back where the maximum of "
        "its window was.",
        source="Ronneberger et al. 2015; Noh et al. 2015",
    )
    channels: int = option(96, "Channels of the decoder.", gt=0, le=1024)


class DetectorSpec(Part):
    """What finds objects in feature maps at several strides."""

    kind: Literal["one-stage", "rcnn"] = option(
        "one-stage",
        "one-stage: each cell of the maps answers with a box and its classes, without anchors, as "
        "YOLO does. rcnn: windows of a grid are told from background and moved to objects, both "
        "solved on the frozen backbone, without epochs.",
        source="Tian et al. 2019; Feng et al. 2021; Girshick et al. 2014",
    )
    channels: int = option(96, "Channels of the detector.", gt=0, le=1024)


class OptimizerSpec(Part):
    """How a fitted phase goes down its loss."""

    name: Literal["auto", "sgd", "adam"] = option(
        "auto",
        "Optimizer (adam with weight decay is AdamW); `auto`: Adam for a new head, and for "
        "masks and boxes throughout; else SGD with Nesterov momentum for fine-tuning.",
        source="Kornblith et al. 2019, appendix A.5",
    )
    learning_rate: float | None = option(
        None, "Peak rate; default: by rule from phase, optimizer and batch size.", gt=0
    )
    momentum: float = option(0.9, "Momentum of SGD.", ge=0, lt=1, source="Sutskever et al. 2013")
    weight_decay: float = option(
        1e-4, "Decoupled weight decay on kernels; biases and norms are left out.", ge=0
    )
    block_decay: float = option(
        1.0,
        "Factor on the rate for each trained block further down from the head, such as 0.8; 1: one "
        "rate for all.",
        source="layer-wise decay: Clark et al. 2020 (ELECTRA), appendix B",
        gt=0,
        le=1,
    )
    label_smoothing: float = option(
        0.0,
        "Share of the target that is spread over all answers in the training loss of fitted "
        "phases; losses on validation and test are measured without.",
        unit="0 to below 1",
        source="Szegedy et al. 2016, section 7",
        ge=0,
        lt=1,
    )
    ema: float = option(
        0.0,
        "Momentum of an average over the weights of all steps, such as 0.99; the average is what "
        "is measured and kept; 0: none.",
        unit="0 to below 1",
        source="Polyak & Juditsky 1992",
        ge=0,
        lt=1,
    )
    schedule: Literal["auto", "cosine", "plateau", "constant"] = option(
        "auto",
        "`cosine`: warm-up, then cosine to zero; `plateau`: reduce when validation loss stalls; "
        "`auto`: plateau for the head, cosine for fine-tuning.",
        source="Loshchilov & Hutter 2017",
    )
    warmup: float = option(
        0.1, "Share of the steps in which the cosine schedule rises.", unit="0 to 1", ge=0, le=1
    )
    plateau_factor: float = option(0.3, "Factor on the rate at a plateau.", gt=0, lt=1)
    plateau_patience: int = option(2, "Epochs without gain at a plateau.", unit="epochs", ge=1)
    steps_per_execution: int = option(
        1,
        "Training steps in one call of the compiled function; 10, say, keeps a GPU busy where what "
        "is trained is small. Callbacks of batches and the clock of a budget come once in a call; "
        "on JAX the steps stay calls of their own.",
        unit="steps",
        source="keras.Model.compile",
        ge=1,
    )
    patience: int = option(
        6,
        "Stop a phase after this many epochs without gain; 0: never, as detection has it unless "
        "asked otherwise.",
        unit="epochs",
        ge=0,
    )
