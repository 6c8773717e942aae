"""`keras.applications.inception_resnet_v2`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

InceptionResNetV2 = drop_in("InceptionResNetV2")
preprocess_input, decode_predictions = pre_and_post("inception_resnet_v2")
