"""A callback that watches for DTKD's degenerate minimum."""

import warnings

from keras_dtkd.core.hooks import FitCallback


class CollapseWarning(FitCallback):
    """Warns, once a `fit`, of a student whose mean temperature falls to the bound."""

    def __init__(self, temperature, loss_name, log_name):
        super().__init__()
        self._temperature = temperature
        self._loss_name, self._log_name = loss_name, log_name
        self._means = []
        self._has_warned = False

    def on_epoch_end(self, epoch, logs=None):
        mean = (logs or {}).get(self._log_name)
        if mean is None or self._has_warned:
            return
        mean = float(mean)
        self._means.append(mean)
        if len(self._means) < 3:
            return
        # Low alone is no alarm: every student starts low, and most rise.
        bounds = self._temperature.collapse_threshold(), *self._means[-3:-1]
        if not all(mean <= bound for bound in bounds):
            return
        self._has_warned = True
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
