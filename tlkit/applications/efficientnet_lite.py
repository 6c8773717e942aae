"""EfficientNet-Lite0 in the manner of `keras.applications`, which does not have it."""

from tlkit.applications.dropin import drop_in, pre_and_post
from tlkit.backbones.build import preprocess

EfficientNetLite0 = drop_in("EfficientNetLite0")
_, decode_predictions = pre_and_post("imagenet_utils")


def preprocess_input(x, data_format=None):
    """Return RGB 0-255 (..., height, width, 3) as the weights want it: (x - 127) / 128."""
    return preprocess(x, "lite")
