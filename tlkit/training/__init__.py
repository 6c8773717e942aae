"""Phases of training: what is frozen is computed once, what is left is solved or fitted."""
