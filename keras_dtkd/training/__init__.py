"""One training step, as functions."""
