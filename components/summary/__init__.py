"""The step summary."""
