"""The callback that every `Distiller.fit` brings."""

import keras

from keras_dtkd.core.hyperparameters import layers_with_hyperparameters
from keras_dtkd.training.run import synchronize_processes


def order_callbacks(distiller, hooks, callbacks):
    """All callbacks of a `fit`: those of the Distiller's parts, and the user's.

    A `Resume` is last, and knows the others: it keeps their state after each epoch.
    """
    # As in `ModelPasses.follow_callbacks`: this package does not know that class.
    resumes = [c for c in callbacks if getattr(c, "continues_exactly", False)]
    others = [callback for callback in callbacks if callback not in resumes]
    for resume in resumes:
        resume.other_callbacks = others
    return [EpochHooks(distiller), *hooks, *others, *resumes]


class EpochHooks(keras.callbacks.Callback):
    """Notifies all parts of each epoch.

    It has no hook on batches: Keras would then read the logs of every step before the
    next one begins, and the host would wait for the device.
    """

    def __init__(self, distiller):
        super().__init__()
        self._distiller = distiller
        self._interrupt = distiller.backend_session.interrupt
        self._is_started = False

    def on_epoch_begin(self, epoch, logs=None):
        """Sets whatever changes with time, outside of any compiled step."""
        distiller = self._distiller
        if not self._is_started:
            # Not when the `fit` begins: other callbacks restore a state there.
            self._is_started = True
            synchronize_processes(
                distiller,
                steps_per_epoch=self.params["steps"],
                first_epoch=epoch,
                last_epoch=self.params["epochs"],
            )
        distiller.push_hyperparameters()
        # Losses notify their temperatures.
        parts = *distiller.distillation_losses.values(), *distiller.views.values()
        rollouts = [] if distiller.rollout is None else [distiller.rollout]
        for part in (*parts, *rollouts, distiller.teacher_reference.teacher):
            part.on_epoch_begin(epoch + 1, self.params["epochs"])
        distiller.model_passes.is_checked = False

    def on_epoch_end(self, epoch, logs=None):
        """Writes hyperparameters that callbacks have changed into their variables.

        Raises an interrupt that waited for the last step.
        """
        self._interrupt.raise_pending()
        # Before any callback keeps or restores the variables.
        for layer in layers_with_hyperparameters(self._distiller):
            layer.push_hyperparameters()
