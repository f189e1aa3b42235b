"""Takes pending releases through their release phase, one after the other (devcenter: release-phase)."""
