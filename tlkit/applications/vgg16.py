"""`keras.applications.vgg16`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

VGG16 = drop_in("VGG16")
preprocess_input, decode_predictions = pre_and_post("vgg16")
