"""`keras.applications.resnet50`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

ResNet50 = drop_in("ResNet50")
preprocess_input, decode_predictions = pre_and_post("resnet50")
