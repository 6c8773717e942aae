"""`RunSpec`: the one description of a run. Every option stands here once.

The command line, recipes (YAML), `--set` and Python's keyword arguments all end in a `RunSpec`;
`spec.yaml` in the run folder is one, with the defaults written out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, model_validator

from tlkit.backbones.catalog import lookup
from tlkit.backbones.sides import Size
from tlkit.spec.checks import ARRAYS as ARRAYS
from tlkit.spec.checks import find_problems
from tlkit.spec.image_size import ImageSize, as_size
from tlkit.spec.parts import (
    BackboneSpec,
    DecoderSpec,
    DetectorSpec,
    HeadSpec,
    OptimizerSpec,
    Part,
    PathText,
    in_seconds,
    option,
)
from tlkit.spec.renamed import renamed
from tlkit.spec.share import ShareOrFolder
from tlkit.spec.tables import Names, TableSpec
from tlkit.spec.task_options import options_of


def _name_alone(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class RunSpec(Part):
    """One run, whole: data, backbone, head, freezing, training, machine."""

    data: PathText | None = option(
        None,
        "A folder of class folders, one with train / validation (val, valid) / test folders, a zip "
        "file of such a folder, a CSV file (.csv, .tsv, .txt) with image and label columns (for "
        "boxes also x1, y1, x2, y2), a folder or file of Pascal VOC, COCO or YOLO annotations, "
        "tfds:NAME[/config][:split], or example:elpv, example:digits.",
    )
    task: str = option(
        "classification",
        "classification, multilabel or regression: one class an image, any number of labels, or "
        "numbers; the latter two from a CSV file or arrays. segmentation: a class for each pixel, "
        "from a folder of images beside one of masks. localisation: one box an image, and its "
        "class. detection: any number of boxes an image. These three are taken by themselves where "
        "the data have masks or boxes.",
    )
    table: TableSpec = option(TableSpec, "How a table is read: its columns, its form.")
    class_names: Names = option(
        list,
        "Names of the labels 0, 1, ... beside arrays and tf.data sets, in this order (one-hot and "
        "multi-label rows: of their places; regression: of the numbers). Empty: those of "
        "image_dataset_from_directory, else the numbers.",
    )
    mask_values: Names = option(
        list,
        "What the values in masks mean, such as [0=background, 255=person, 128=void]: numbers, or "
        "colours as six hexadecimal digits (ff0000=car); void is neither trained on nor measured. "
        "The order is that of the classes. Empty: told from the values that occur and from a file "
        "classes.txt; in spec.yaml stands which.",
    )
    val: ShareOrFolder = option(
        0.15, "Validation data: a folder, or the share to split off.", unit="0 to below 1, or path"
    )
    test: ShareOrFolder = option(
        0.15,
        "Test data: a folder, or the share to split off; 0: none.",
        unit="0 to below 1, or path",
    )
    group: str | None = option(
        None,
        "Regular expression searched in each image's path relative to the data, with forward "
        "slashes: images with the same first capture group (or whole match) belong together and "
        "stay on one side of every split and fold; those without a match stand alone. Such as "
        "'patient_([0-9]+)'; for a CSV file there is table.group.",
    )
    rare: Literal["error", "drop", "train"] = option(
        "error",
        "Classes with fewer than 2 usable images, or groups of them: error; drop: they are no "
        "outputs (images of several labels stay without these); train: trained on, never measured.",
    )
    strict: bool = option(False, "Stop at a file that cannot be decoded instead of leaving it out.")
    near_duplicates: bool = option(
        False, "Warn of images much alike that stand in two parts; reading takes longer."
    )
    out: PathText | None = option(None, "The run folder; empty: runs/DATA-BACKBONE-NNNN.")
    backbone: Annotated[BackboneSpec, BeforeValidator(_name_alone)] = option(
        BackboneSpec, "The pretrained network, by name or with its arguments."
    )
    init: PathText | None = option(
        None,
        "A finished run whose weights the training starts from: new images, a class more, more "
        "epochs. Backbone, head and image size are its own; its classes stay first, and "
        "images that it knows stay in the parts that they were in.",
    )
    image_size: ImageSize | None = option(
        None,
        "Side of the square that images are resized to, or HEIGHTxWIDTH, such as 360x480; empty: "
        "the backbone's own square; for detection 320 to 640, by how small the objects are.",
        unit="pixels",
    )
    resize: Literal["stretch", "letterbox"] = option(
        "stretch",
        "How images are brought to that size. stretch: the aspect ratio is not kept; letterbox: "
        "whole and undistorted, between bars of the mean colour. Masks and boxes go along, and "
        "answers come back in the image's own pixels.",
    )
    head: HeadSpec = option(HeadSpec, "What replaces the FC/softmax top.")
    decoder: DecoderSpec = option(DecoderSpec, "What answers for each pixel (segmentation).")
    detector: DetectorSpec = option(DetectorSpec, "What finds objects (detection).")
    alpha: Literal["white", "black", "drop"] = option(
        "white",
        "What stands behind transparent pixels; drop: nothing, the colour stored under them is "
        "shown, which is often black.",
    )
    bits: Literal["auto", 8, 10, 12, 14, 16] = option(
        "auto",
        "Low bits that are used of the samples of 16-bit PNG; values above are white. auto: the "
        "fewest that hold the largest sample of the training data; in spec.yaml stands which.",
        unit="bits",
    )
    normalize: Literal["application", "dataset", "pca"] = option(
        "application",
        "Input normalisation: the application's own, mean and deviation of the training images "
        "(dataset), or PCA whitening of their colours (pca); the latter two for training from "
        "random weights.",
        source="https://cs231n.github.io/neural-networks-2/",
    )
    regime: Literal["auto", "small", "medium", "large"] = option(
        "auto",
        "By size of the data: small trains the head, medium also the last blocks, large all.",
        source="https://cs231n.github.io/transfer-learning/",
    )
    freeze: str = option(
        "auto",
        "Layers to freeze: auto, all, none, or rules joined by commas: until=BLOCK, last=N, "
        "layers=A:B, re=PATTERN; a minus in front takes layers out again.",
    )
    batchnorm: Literal["auto", "frozen", "affine", "train"] = option(
        "auto",
        "BatchNorm in trained blocks: frozen as a whole, affine (scale and offset are trained, "
        "statistics held), or train; auto: frozen, but train from random weights.",
        source="measured: frozen 90.6%, train 87.1% (MobileNetV2, 3,068 images)",
    )
    augment: Literal["auto", "none", "light", "medium", "strong"] = option(
        "auto",
        "Random changes of training images. light: mirrored and slightly shifted, zoomed and "
        "brightened; medium: also turned, with other contrast and saturation, all stronger; "
        "strong: RandAugment and random erasing; auto: light where the whole network is trained, "
        "none where frozen features can be computed once.",
        source="Szegedy et al. 2015; Cubuk et al. 2020; Zhong et al. 2020",
    )
    augmented_copies: int | None = option(
        None,
        "Copies of each training image, changed at random by augment (auto: light), whose frozen "
        "features are kept beside its own; heads are solved on all of them, fine-tuning takes "
        "another in each epoch. Default: 0, for masks and detection 3 to 11, for one box 4 to "
        "7, under a budget up to 3 if there is time.",
        unit="0 to 63",
        ge=0,
        le=63,
    )
    mirror: bool = option(
        True,
        "Whether augmentation mirrors images; false for digits, text and whatever else a mirror "
        "makes another thing.",
    )
    mixup: float = option(
        0.0,
        "Alpha of MixUp: each training image and its target blended with another by a share "
        "from Beta(alpha, alpha); 0: off, 0.1 to 0.4 are usual.",
        source="Zhang et al. 2018",
        ge=0,
    )
    cutmix: float = option(
        0.0,
        "Alpha of CutMix: a rectangle of another image set into each, its target by the area; "
        "0: off, 1 is usual. With mixup, each batch goes through one of them.",
        source="Yun et al. 2019",
        ge=0,
    )
    balance: Literal["none", "weights", "sampling"] = option(
        "none",
        "Against unequal classes. weights: training loss by inverse class frequency, for labels "
        "there against not there; sampling: each epoch draws rare classes more often. Validation "
        "and test stay as they are.",
        source="King & Zeng 2001",
    )
    epochs: int | None = option(
        None,
        "Epochs of each fitted phase; default: chosen by rule.",
        unit="epochs",
        gt=0,
        le=1_000_000,
    )
    budget: (
        Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(in_seconds)] | None
    ) = option(
        None,
        "Time for training: the head first, then more and more of the last blocks while "
        "validation gains and the time lasts; replaces regime, freeze and epochs.",
        unit="seconds, or with s, m, h, such as 2m",
    )
    batch_size: int = option(
        32,
        "Images in one training step; unless one is asked for, 8 for segmentation and detection.",
        gt=0,
        le=1_000_000,
    )
    optimizer: Annotated[OptimizerSpec, BeforeValidator(_name_alone)] = option(
        OptimizerSpec, "Optimizer, rates and schedule of the fitted phases."
    )
    cache_size: float = option(
        10.0,
        "Frozen features are kept on disk, in tlkit's cache folder, up to this size in all; what "
        "does not fit is computed anew in each epoch.",
        unit="GiB",
        ge=0,
        le=1_000_000,
    )
    seed: int = option(
        0,
        "Seed of splits, order, augmentation and initialisation.",
        unit="0 to 4294967295",
        source="numpy.random.seed",
        ge=0,
        lt=2**32,
    )
    device: str = option(
        "auto",
        "auto, cpu, gpu, gpu:N; several GPUs share each batch: gpu:0,1 or gpu:all (cpu:0,1 on "
        "logical devices, for tests; on JAX XLA_FLAGS makes them).",
        pattern=r"^(auto|cpu(:\d+(,\d+)+)?|gpu(:(all|\d+(,\d+)*))?)$",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        "Computation in backbone layers; auto: bfloat16 on a GPU of compute capability 8 or more, "
        "float16 on 7, float32 elsewhere. The head is always float32.",
        source="https://www.tensorflow.org/guide/mixed_precision#supported_hardware",
    )
    engine: Literal["auto", "keras", "tensorflow", "openvino", "onnxruntime"] = option(
        "auto",
        "What computes the frozen part: auto tries those installed on a batch and takes the "
        "quickest that agrees with Keras (with deterministic: tensorflow, untried).",
    )
    deterministic: bool = option(False, "Only operations that give the same bits each time.")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, fields: Any) -> Any:
        return renamed(fields) if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _holds_together(self) -> RunSpec:
        if "batch_size" not in self.model_fields_set:
            # Not by an assignment, for which it would count as asked for.
            self.__dict__["batch_size"] = options_of(self).batch_size
        patience = options_of(self).patience
        if patience is not None and "patience" not in self.optimizer.model_fields_set:
            whole = self.optimizer.model_copy()
            whole.__dict__["patience"] = patience
            self.__dict__["optimizer"] = whole
        problems = find_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def size(self) -> Size:
        """Size of the model's input; of the user's own model once it is opened."""
        # The catalog last: a model of the user's own is not in it.
        asked = self.image_size or options_of(self).image_size
        return as_size(asked or lookup(self.backbone.name).default_size)

    @property
    def known_size(self) -> Size | None:
        """The same; None while the user's own model is not opened and none is asked for."""
        return None if self.backbone.given and not self.image_size else self.size

    @property
    def kept_views(self) -> int:
        """Views of each training image: itself and its augmented copies."""
        return 1 + (self.augmented_copies or 0)

    @property
    def augment_level(self) -> str:
        """The level of augmentation where there is any: `none` next to MixUp or CutMix alone."""
        return "light" if self.augment == "auto" else self.augment

    def to_yaml(self) -> str:
        """Return the whole spec, defaults written out, as YAML."""
        return yaml.dump(self.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes text with line separators and the like in double quotes, as escapes: PyYAML folds
    them in any other, and reads something else back."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text_node)
