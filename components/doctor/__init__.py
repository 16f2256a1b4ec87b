"""The step doctor."""
