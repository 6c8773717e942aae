"""What leaves the house: formats that run without tlkit, and the check that they answer alike."""
