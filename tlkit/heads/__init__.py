"""What stands in the place of the FC/softmax top: one file a task."""
