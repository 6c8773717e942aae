"""What the frozen part of a network gives, computed once and kept."""
