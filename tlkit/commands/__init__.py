"""What each command does: the Python twin of `tlkit.cli`, one file a verb."""
