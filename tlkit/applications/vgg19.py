"""`keras.applications.vgg19`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

VGG19 = drop_in("VGG19")
preprocess_input, decode_predictions = pre_and_post("vgg19")
