"""A metric that nobody fed is not reported; one that was fed is."""

import keras
import numpy as np

from keras_dtkd.losses import KD
from tests.tiny_models import data, distiller, student

X, Y = data(16)


class Count(keras.metrics.Metric):
    """How many samples it was given."""

    def __init__(self, name="count", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(keras.ops.cast(keras.ops.shape(y_pred)[0], "float32"))

    def result(self):
        return self.total + 0.0


def compiled(**options):
    d = distiller(KD(), **options)
    d.compile("sgd", d.loss, metrics=[Count()])
    return d


def test_every_metric_is_fed_once_a_batch():
    d = compiled(evaluate_distillation=True)
    logs = d.fit(X, Y, batch_size=8, epochs=2, validation_data=(X, Y), verbose=0)
    assert logs.history["count"] == logs.history["val_count"] == [16, 16]


def test_the_users_metrics_are_silent_without_labels():
    assert "count" not in compiled().fit(X, verbose=0).history
    d = compiled(evaluate_distillation=True)
    assert "count" not in d.evaluate(X, verbose=0, return_dict=True)


def test_the_students_own_metrics_are_not_touched():
    small = student()
    d = distiller(student=small)
    small.compile("sgd", d.loss, metrics=["accuracy"])
    before = small.evaluate(X, Y, verbose=0)
    d = distiller(KD(weight=0.0), keras.optimizers.SGD(0.0), student=small)
    d.fit(X, Y, verbose=0)
    assert np.allclose(small.evaluate(X, Y, verbose=0), before, rtol=1e-5)


def test_metrics_may_be_asked_for_between_runs():
    d = compiled()
    logs = d.fit(X, Y, batch_size=16, verbose=0).history
    results = d.get_metrics_result()
    assert results.keys() == logs.keys()
    assert all(np.isclose(float(results[k]), logs[k][0], rtol=1e-5) for k in logs)
