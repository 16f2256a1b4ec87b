"""The step reference."""
