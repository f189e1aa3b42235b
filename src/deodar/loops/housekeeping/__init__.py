"""The loop that keeps the disk from filling."""
