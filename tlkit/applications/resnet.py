"""`keras.applications.resnet`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

ResNet50 = drop_in("ResNet50")
ResNet101 = drop_in("ResNet101")
ResNet152 = drop_in("ResNet152")
preprocess_input, decode_predictions = pre_and_post("resnet")
