"""The model that a callback is about."""

import keras


def find_student(model):
    """A Distiller's student; any other model itself."""
    student = getattr(model, "student", None)
    return student if isinstance(student, keras.Model) else model
