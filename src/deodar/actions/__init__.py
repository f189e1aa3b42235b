"""What one can do to an app: one transaction each, then the bell. Never reaches an engine."""
