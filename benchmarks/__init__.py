"""One command, one table; peers run side by side in the same process."""
