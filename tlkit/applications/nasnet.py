"""`keras.applications.nasnet`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

NASNetMobile = drop_in("NASNetMobile")
NASNetLarge = drop_in("NASNetLarge")
preprocess_input, decode_predictions = pre_and_post("nasnet")
