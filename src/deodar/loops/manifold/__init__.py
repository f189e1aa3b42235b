"""Keeps every app's dynos as its formation and release wish them (devcenter: dyno-manager)."""
