"""`keras.applications.inception_v3`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

InceptionV3 = drop_in("InceptionV3")
preprocess_input, decode_predictions = pre_and_post("inception_v3")
