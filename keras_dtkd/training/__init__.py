"""One training step, as functions that take what they need and return what they make."""
