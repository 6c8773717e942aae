"""`keras.applications.mobilenet_v3`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

MobileNetV3Small = drop_in("MobileNetV3Small")
MobileNetV3Large = drop_in("MobileNetV3Large")
preprocess_input, decode_predictions = pre_and_post("mobilenet_v3")
