"""`keras.applications.imagenet_utils`, unchanged."""

from tlkit.applications.dropin import pre_and_post

preprocess_input, decode_predictions = pre_and_post("imagenet_utils")
