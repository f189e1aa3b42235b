"""What the platform remembers: wishes and facts, in one database and the app logs beside it."""
