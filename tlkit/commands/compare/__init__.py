"""Which of several backbones suits the images."""
