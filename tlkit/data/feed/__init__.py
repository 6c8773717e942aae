"""From a listed and scanned data set to batches."""
