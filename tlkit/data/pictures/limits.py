"""The largest image that is decoded; apart, since what only reads files needs no TensorFlow."""

# Pillow refuses to open more pixels than this as a decompression bomb: 2 x MAX_IMAGE_PIXELS, with
# MAX_IMAGE_PIXELS = 1 GiB / 4 / 3 (PIL/Image.py). As RGB it is half a gibibyte.
MAX_PIXELS = 178_956_970
