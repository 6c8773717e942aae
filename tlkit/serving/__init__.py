"""A run or an export answering over HTTP: TensorFlow Serving's REST, uploads, and a page."""
