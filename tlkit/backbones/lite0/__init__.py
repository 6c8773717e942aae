"""EfficientNet-Lite0, of which Keras has no constructor."""
