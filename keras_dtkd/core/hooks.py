"""Hooks of losses, temperatures, views and teachers in a `fit`."""

import keras

from keras_dtkd.core.layer_tree import iter_layers


class FitCallback(keras.callbacks.Callback):
    """A callback that is notified when a `fit` ends, however it ends."""

    def stop(self):
        """Called once the `fit` is over, after an exception too."""


class FitHooks:
    """The hooks of a part of a Distiller, all empty by default."""

    def issues(self, context):
        """What is wrong with the use of this part, before the first step.

        Called whenever more is known: before the Distiller is compiled, and after. An
        issue that is returned again is reported once. `fit` raises the first error and
        warns of warnings; `diagnose` shows all.

        Args:
            context: A `keras_dtkd.validation.context.ValidationContext`. What is not
                known yet is `None` in it.

        Returns:
            A list of `keras_dtkd.diagnostics.Issue`.
        """
        return []

    def on_epoch_begin(self, epoch, epochs):
        """Called before each epoch of a `fit`, outside of any compiled step.

        Args:
            epoch: Counted from 1.
            epochs: The last epoch of this `fit`.
        """

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


def parts_with_hooks(losses, views, teacher):
    """Losses, their temperatures, views and the teacher: whatever has `FitHooks`."""
    layers = iter_layers([losses, views])
    return [*(layer for layer in layers if isinstance(layer, FitHooks)), teacher]
