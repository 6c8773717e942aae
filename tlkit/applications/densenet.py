"""`keras.applications.densenet`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

DenseNet121 = drop_in("DenseNet121")
DenseNet169 = drop_in("DenseNet169")
DenseNet201 = drop_in("DenseNet201")
preprocess_input, decode_predictions = pre_and_post("densenet")
