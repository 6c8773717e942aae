"""From a person's pictures to batches: sources, scan, split, decoding, pipeline."""
