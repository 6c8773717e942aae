"""The folder of a run: all that crosses from training to its uses."""
