"""Devices, engines and memory."""
