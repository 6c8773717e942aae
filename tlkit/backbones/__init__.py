"""The pretrained networks: a catalog row each, and how one is built with its weights."""
