"""`keras.applications.efficientnet`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

EfficientNetB0 = drop_in("EfficientNetB0")
EfficientNetB1 = drop_in("EfficientNetB1")
EfficientNetB2 = drop_in("EfficientNetB2")
EfficientNetB3 = drop_in("EfficientNetB3")
EfficientNetB4 = drop_in("EfficientNetB4")
EfficientNetB5 = drop_in("EfficientNetB5")
EfficientNetB6 = drop_in("EfficientNetB6")
EfficientNetB7 = drop_in("EfficientNetB7")
preprocess_input, decode_predictions = pre_and_post("efficientnet")
