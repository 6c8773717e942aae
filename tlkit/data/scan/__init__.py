"""What is in a data set: usable, broken, twice, nearly alike."""
