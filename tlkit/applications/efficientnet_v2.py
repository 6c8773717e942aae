"""`keras.applications.efficientnet_v2`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

EfficientNetV2B0 = drop_in("EfficientNetV2B0")
EfficientNetV2B1 = drop_in("EfficientNetV2B1")
EfficientNetV2B2 = drop_in("EfficientNetV2B2")
EfficientNetV2B3 = drop_in("EfficientNetV2B3")
EfficientNetV2S = drop_in("EfficientNetV2S")
EfficientNetV2M = drop_in("EfficientNetV2M")
EfficientNetV2L = drop_in("EfficientNetV2L")
preprocess_input, decode_predictions = pre_and_post("efficientnet_v2")
