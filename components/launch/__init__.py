"""The step train on several nodes."""
