"""`keras.applications.xception`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

Xception = drop_in("Xception")
preprocess_input, decode_predictions = pre_and_post("xception")
