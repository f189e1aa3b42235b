"""Puts apps to sleep that nobody asks for, and lets them sink."""
