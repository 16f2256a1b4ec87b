"""Speed and trust, measured: one command, one table."""
