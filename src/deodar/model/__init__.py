"""The nouns of the platform and the decisions about them. Pure: no I/O, no clock, no logging."""
