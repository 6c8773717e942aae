"""Models that a person brings as backbones."""
