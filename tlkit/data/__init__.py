"""From a person's images to batches: sources, scan, split, decoding, pipeline."""
