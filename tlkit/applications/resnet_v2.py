"""`keras.applications.resnet_v2`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

ResNet50V2 = drop_in("ResNet50V2")
ResNet101V2 = drop_in("ResNet101V2")
ResNet152V2 = drop_in("ResNet152V2")
preprocess_input, decode_predictions = pre_and_post("resnet_v2")
