"""`keras.applications.mobilenet_v2`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

MobileNetV2 = drop_in("MobileNetV2")
preprocess_input, decode_predictions = pre_and_post("mobilenet_v2")
