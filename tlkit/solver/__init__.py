"""Heads that are solved instead of trained."""
