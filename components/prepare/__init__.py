"""The step prepare."""
