"""`keras.applications.mobilenet`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

MobileNet = drop_in("MobileNet")
preprocess_input, decode_predictions = pre_and_post("mobilenet")
