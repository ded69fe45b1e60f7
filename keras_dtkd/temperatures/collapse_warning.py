"""A callback that watches for DTKD's degenerate minimum."""

import warnings

from keras_dtkd.core.hooks import FitCallback


class CollapseWarning(FitCallback):
    """Warns, once a `fit`, of a student whose temperature falls to the bound.

    Args:
        temperature: A `Dynamic`.
        loss_name: Name of the loss that has it.
        log_name: The name under which the student's mean temperature is logged.
    """

    def __init__(self, temperature, loss_name, log_name):
        super().__init__()
        self._temperature = temperature
        self._loss_name, self._log_name = loss_name, log_name
        self._means = []
        self._has_warned = False

    def on_epoch_end(self, epoch, logs=None):
        """Compares the mean of the epoch with those before."""
        mean = (logs or {}).get(self._log_name)
        if mean is None or self._has_warned:
            return
        self._means.append(float(mean))
        if _has_collapsed(self._means, self._temperature.collapse_threshold()):
            self._has_warned = True
            self._warn(self._means[-1])

    def _warn(self, mean):
        warnings.warn(
            f"`{self._loss_name}`: the mean student temperature has fallen to "
            f"{mean:.3g}. The student's logits shrink to nothing: the published DTKD "
            "loss is smallest there, whatever the student has learned. Remedies: "
            f"`rule='exact'` (now: {self._temperature.rule!r}), or "
            "`stop_gradient='weight'` (now: "
            f"{self._temperature.stop_gradient!r}), or a longer warm-up "
            "(`warmup_epochs`), or a lower learning rate.",
            stacklevel=2,
        )


def _has_collapsed(means, threshold):
    """At the bound, and for two epochs in a row further down.

    Low alone is no alarm: every student starts low, and most rise.
    """
    return len(means) > 2 and means[-1] <= min(threshold, means[-2], means[-3])
