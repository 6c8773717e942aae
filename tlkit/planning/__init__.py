"""What will be done, and why: pure functions."""
