"""`keras.applications.convnext`, with tlkit's arguments as well."""

from tlkit.applications.dropin import drop_in, pre_and_post

ConvNeXtTiny = drop_in("ConvNeXtTiny")
ConvNeXtSmall = drop_in("ConvNeXtSmall")
ConvNeXtBase = drop_in("ConvNeXtBase")
ConvNeXtLarge = drop_in("ConvNeXtLarge")
ConvNeXtXLarge = drop_in("ConvNeXtXLarge")
preprocess_input, decode_predictions = pre_and_post("convnext")
