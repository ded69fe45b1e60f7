"""The entropy of attention, logged at the end of epochs."""

import keras

from keras_dtkd.callbacks.attention_layers import find_attention_layers
from keras_dtkd.metrics.attention_entropy import AttentionEntropy


class AttentionEntropyLogger(keras.callbacks.Callback):
    """Logs how concentrated the attentions of a student are at the end of each epoch.

    `attention_entropy_1`, `attention_entropy_2`, ... are the `metrics.AttentionEntropy`
    of its levels, from 0 to 1: in a `models.HierarchicalMixture` from the first level
    to the second, ..., from the last to the classes; else of its layers with an
    `attention_temperature` and a function `attention`, in the model's order. Callbacks
    that read logs (`CSVLogger`) must come after this callback in the list.

    Attributes:
        history: The values of each epoch, a dict of lists by name, for
            `plots.attention_entropy`. It continues over several `fit` of one process.

    Raises:
        ValueError: At the beginning of `fit`: the model has no attention.

    Example:

    >>> logger = AttentionEntropyLogger()
    >>> distiller.fit(x, y, epochs=60, callbacks=[AttentionTemperature(), logger])
    >>> figure = plots.attention_entropy(logger.history)
    """

    def __init__(self):
        super().__init__()
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs=None):
        layers = find_attention_layers("AttentionEntropyLogger", self.model)
        self._layers = [x for x in layers if callable(getattr(x, "attention", None))]
        if not self._layers:
            raise ValueError(
                "`AttentionEntropyLogger`: no layer with an `attention_temperature` "
                f"has a method `attention`, such as {layers[0].name!r}."
            )

    def on_epoch_end(self, epoch, logs=None):
        for number, layer in enumerate(self._layers, start=1):
            metric = AttentionEntropy(name=f"attention_entropy_{number}")
            metric.update_state(layer.attention())
            value = float(metric.result())
            self.history.setdefault(metric.name, []).append(value)
            if logs is not None:
                logs[metric.name] = value

    def on_train_end(self, logs=None):
        self._layers = []
