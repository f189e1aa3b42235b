"""Keepers of the Engine promise: where dynos really run."""
