"""The callback that every `Distiller.fit` brings along."""

import warnings

import keras

from keras_dtkd import backend
from keras_dtkd.core import hyperparameters
from keras_dtkd.distribution import rank_callbacks
from keras_dtkd.temperatures.dynamic import Dynamic


class EpochHooks(keras.callbacks.Callback):
    """Tells losses of each epoch and watches for DTKD's degenerate minimum."""

    def __init__(self):
        super().__init__()
        self._means = {}
        self._warned = False
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        """Sets whatever changes with time, outside of any compiled step."""
        if not self._begun:
            # Not when the `fit` begins: other callbacks restore a state there.
            self._begun = True
            numbers = {"first_epoch": epoch, "last_epoch": self.params["epochs"]}
            backend.synchronize_processes(
                self.model, steps_per_epoch=self.params["steps"], **numbers
            )
        self.model.push_hyperparameters()
        for loss in self.model.distillation_losses.values():
            loss.on_epoch_begin(epoch + 1, self.params["epochs"])

    def on_train_batch_end(self, batch, logs=None):
        """An interrupt that waited for the step comes now."""
        self.model.held.interrupts.batch_over()

    def on_test_batch_end(self, batch, logs=None):
        """Likewise."""
        self.model.held.interrupts.batch_over()

    def on_epoch_end(self, epoch, logs=None):
        """Warns, once a `fit`, of a student whose temperature falls to the bound."""
        # Before any callback keeps or restores the variables.
        for part in hyperparameters.layers_with_hyperparameters(self.model):
            part.push_hyperparameters()
        for name, loss in self.model.distillation_losses.items():
            for rule in loss.get_temperatures()[:1]:
                mean = (logs or {}).get(self.model.temperature_log_names(name)[0])
                # An untrained student is low under the exact rule too, which has no
                # such minimum: it cannot lower the loss by shrinking.
                if (
                    mean is None
                    or not isinstance(rule, Dynamic)
                    or rule.rule == "exact"
                ):
                    continue
                means = self._means.setdefault(name, [])
                means.append(float(mean))
                if not self._warned and _has_collapsed(
                    means, rule.collapse_threshold()
                ):
                    self._warned = True
                    self._warn(name, rule, float(mean))

    def _warn(self, name, rule, mean):
        warnings.warn(
            f"`{name}`: the mean student temperature has fallen to {mean:.3g}. The "
            "student's logits shrink to nothing: the published DTKD loss is smallest "
            "there, whatever the student has learned. Remedies: `rule='exact'` "
            f"(now: {rule.rule!r}), or `stop_gradient='weight'` (now: "
            f"{rule.stop_gradient!r}), or a longer warm-up (`warmup_epochs`), or a "
            "lower learning rate.",
            stacklevel=2,
        )


def _has_collapsed(means, floor):
    """At the bound, and for two epochs in a row further down.

    Low alone is no alarm: every student starts low, and most rise.
    """
    return len(means) > 2 and means[-1] <= min(floor, means[-2], means[-3])


def with_epoch_hooks(callbacks, verbose, *attendants):
    """The user's callbacks with ours before them, for this process."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras makes another of them, with the number of epochs that ours needs.
        callbacks = callbacks.callbacks
    callbacks = callbacks or []
    callbacks = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    callbacks, verbose = rank_callbacks.rank_zero_callbacks(callbacks, verbose)
    return [*attendants, *callbacks], verbose
