"""Builds everything once and runs it in one TaskGroup; nothing imports it."""
