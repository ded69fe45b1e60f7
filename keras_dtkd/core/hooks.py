"""What losses, temperatures, views and teachers may ask of a `fit`."""

import keras


class FitCallback(keras.callbacks.Callback):
    """A callback that is notified when a `fit` ends, however it ends."""

    def stop(self):
        """Called once the `fit` is over, after an exception too."""


class FitHooks:
    """The hooks of a part of a Distiller, all empty by default."""

    def training_callbacks(self, distiller):
        """Callbacks that a `fit` with this part needs.

        Args:
            distiller: The Distiller, compiled, its models inspected.

        Returns:
            A list of `keras.callbacks.Callback`.
        """
        return []

    def hold_out(self, data):
        """How much of the training data this part needs held out.

        Args:
            data: The `keras_dtkd.preparation.holdout.TrainingData`.

        Returns:
            A share between 0 and 1, or `None`. What is held out is then
            `distiller.run_context.held_out`, `(x, y)`.
        """
        return None
