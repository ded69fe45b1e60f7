"""Keeps the student alone while it trains."""

import keras


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """`keras.callbacks.ModelCheckpoint` of the student alone.

    `ModelCheckpoint` itself keeps the whole Distiller: losses, optimizer and all but
    the teacher, from which training goes on, and whose `.weights.h5` does not fit the
    student. This file is the student's own: `keras.saving.load_model("best.keras")`, or
    `student.load_weights("best.weights.h5")`, needs no keras_dtkd.

    Args:
        *args: As `keras.callbacks.ModelCheckpoint`, like `**kwargs`: `filepath`,
            `monitor`, `save_best_only`, `save_weights_only` and more.

    Example:

    >>> best = StudentCheckpoint(
    ...     "best.keras", monitor="val_accuracy", save_best_only=True
    ... )
    >>> distiller.fit(x, y, validation_data=(x_val, y_val), callbacks=[best])
    >>> student = keras.saving.load_model("best.keras")
    """

    @property
    def model(self):
        """The student, filled with the present state of the run."""
        # Under JAX this fills the variables of the whole Distiller.
        model = super().model
        return _StudentOfRun(model) if hasattr(model, "student") else model


class _StudentOfRun:
    """A Distiller's student with the Distiller's metrics.

    They show in which direction what `monitor` names is better; the student has none
    while the Distiller trains it.
    """

    def __init__(self, distiller):
        self._student, self.metrics = distiller.student, distiller.metrics

    def __getattr__(self, name):
        if name == "_student":  # Not there yet, as in a copy.
            raise AttributeError(name)
        return getattr(self._student, name)
