"""Keras's own tests, with each model under test as the student of a Distiller."""
