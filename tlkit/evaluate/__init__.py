"""How good a model is: numbers, files and images."""
