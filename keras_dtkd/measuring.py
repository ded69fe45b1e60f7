"""Metrics that somebody fed, and no others."""

import keras

from keras_dtkd import backend
from keras_dtkd.core.arrays import drop_placeholder
from keras_dtkd.held import Heard, flag


class Measured(keras.Model):
    """The part of the Distiller that answers for its metrics."""

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The student's metrics, where there are labels."""
        y = drop_placeholder(y.y if isinstance(y, Heard) else y)
        with flag(self.held, "in_step"):
            if y is None:
                return self.get_metrics_result()
            return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        """The metrics that somebody fed: see the class's page for their names."""
        results = {}
        with backend.all_reduced_metrics(self):
            for metric in self._fed_metrics():
                result = metric.result()
                results.update(
                    result if isinstance(result, dict) else {metric.name: result}
                )
        return results

    def _fed_metrics(self):
        evaluating = self.held.evaluating
        labels = self.held.test_labels if evaluating else self.held.train_labels
        heard = self.evaluate_distillation or not evaluating
        task = labels and self.loss is not None
        for metric in self.metrics:
            if self.trackers.get(metric.name) is metric:
                fed = heard and (task or metric.name != "task_loss")
            else:
                fed = heard or task if metric.name == "loss" else labels
            # Keras makes the compiled metrics with the first labels.
            if fed and getattr(metric, "built", True):
                yield metric
