"""Memory you own (floor 3)."""
