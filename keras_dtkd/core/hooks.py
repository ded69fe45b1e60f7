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
        """A list of `Issue`: what is wrong with the use of this part.

        Called before and after the Distiller is compiled; what `context`, a
        `keras_dtkd.validation.context.ValidationContext`, does not know yet is `None`.
        `fit` raises the first error and warns of warnings; `diagnose` shows all.
        """
        return []

    def on_epoch_begin(self, epoch, epochs):
        """Called before each epoch (1 to `epochs`), outside of any compiled step.

        What a step is to see of it must be in a Keras variable or a hyperparameter: a
        compiled step keeps the Python numbers that it was compiled with.
        """

    def training_callbacks(self, distiller):
        """A list of callbacks that a `fit` of the Distiller, compiled, needs."""
        return []

    def hold_out(self, data):
        """The share of the training data, from 0 to 1, to hold out, or `None`.

        `data` is a `keras_dtkd.preparation.holdout.TrainingData`. What is held out is
        then `distiller.run_context.held_out`, `(x, y)`.
        """
        return None


def parts_with_hooks(losses, views, teacher, rollout=None):
    """Losses, their temperatures, views, rollout, teacher: whatever has `FitHooks`."""
    layers = iter_layers([*losses.values(), *views.values()])
    parts = [*(layer for layer in layers if isinstance(layer, FitHooks)), teacher]
    return parts if rollout is None else [*parts, rollout]
