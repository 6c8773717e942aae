"""The tasks: how labels are encoded, the loss, the metrics and the answers."""
