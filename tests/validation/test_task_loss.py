"""What a compiled loss takes the student's outputs for, and what Keras makes of it."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.diagnostics import probe, sampling
from keras_dtkd.losses import KD
from keras_dtkd.metrics import ExpectedCalibrationError
from tests import oracles
from tests.tiny_models import (
    CLASSES,
    data,
    numbers,
    one_hot,
    same,
    student,
    teacher,
    two_outputs,
)

X, Y = data(32)
TENSORFLOW = keras.config.backend() == "tensorflow"
SPARSE = keras.losses.SparseCategoricalCrossentropy
BINARY = keras.losses.BinaryCrossentropy


def from_logits_warnings(small, loss, y=Y, metrics=None, **options):
    """The warnings of one epoch about `from_logits`, and its logs."""
    small.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics)
    d = Distiller(teacher(small.layers[-1].activation), small, KD(), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logs = d.fit(X, y, epochs=2, verbose=0).history
    messages = [str(w.message) for w in caught]
    return [m for m in messages if "`Distiller`: the student ends in" in m], logs


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("loss", [SPARSE(), "sparse_categorical_crossentropy"])
def test_logits_used_as_probabilities_warn_once(loss):
    (message,), _ = from_logits_warnings(student(), loss)
    assert "a linear layer" in message and "`from_logits=True`" in message


@pytest.mark.parametrize(
    "activation, loss",
    [(None, SPARSE(from_logits=True)), ("softmax", SPARSE()), (None, "mse")],
)
def test_a_matching_loss_does_not_warn(activation, loss):
    y = one_hot(Y) if loss == "mse" else Y
    assert from_logits_warnings(student(activation), loss, y)[0] == []


class Subclass(keras.Model):
    def __init__(self, activation):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES, activation)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_the_outputs_of_a_subclass_show_what_the_loss_should_take(
    activation, from_logits
):
    loss = SPARSE(from_logits=from_logits)
    found, _ = from_logits_warnings(Subclass(activation), loss)
    is_wrong = from_logits == (activation == "softmax")
    # TensorFlow's loss finds the logits behind a softmax.
    assert len(found) == (is_wrong and not (TENSORFLOW and from_logits))
    assert all(f"`from_logits={not from_logits}`" in message for message in found)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_used_as_logits_warn_unless_keras_recovers_logits(activation):
    """TensorFlow's losses find the logits behind a softmax or sigmoid."""
    small = student(activation)
    p = keras.ops.convert_to_numpy(small(X)).astype("float64")
    if activation == "softmax":
        loss, y, given = SPARSE(from_logits=True), Y, one_hot(Y)
        right = -np.log(p[np.arange(32), Y]).mean()
        wrong = -oracles.log_softmax(p)[np.arange(32), Y].mean()
    else:
        loss, y = BINARY(from_logits=True), one_hot(Y)
        given = y
        right = -(given * np.log(p) + (1 - given) * np.log(1 - p)).mean()
        wrong = (np.log1p(np.exp(p)) - given * p).mean()
    messages, logs = from_logits_warnings(small, loss, y)
    assert len(messages) == (0 if TENSORFLOW else 1)
    # The warning agrees with the step.
    expected = right if TENSORFLOW else wrong
    assert logs["task_loss"][0] == pytest.approx(expected, rel=1e-4)
    assert abs(right - wrong) > 1e-2


def test_probabilities_as_logits_warn_after_a_cast():
    small = student("softmax", dtype="bfloat16")
    assert len(from_logits_warnings(small, SPARSE(from_logits=True))[0]) == 1


def test_uniform_probabilities_do_not_warn():
    """Of equal probabilities, a softmax makes the same again."""
    small = student("softmax")
    small.layers[-1].set_weights([np.zeros((8, CLASSES)), np.zeros(CLASSES)])
    assert from_logits_warnings(small, SPARSE(from_logits=True))[0] == []


def test_diagnose_reports_from_logits_as_the_step_uses_it():
    small = student("softmax")
    small.compile("sgd", SPARSE(from_logits=True))
    distiller = Distiller(teacher(), small, KD())
    samples = sampling.sample_batches((X, Y), 1)
    issues, _ = probe.run_validation(distiller, samples)
    expected = [] if TENSORFLOW else ["probabilities_as_logits"]
    assert [issue.code for issue in issues] == expected


def test_from_logits_is_checked_for_each_output():
    small = two_outputs("dict")
    small.compile("sgd", {"label": SPARSE(), "size": "mse"})
    d = Distiller(two_outputs("dict", seed=5), small, KD(), output="label")
    with pytest.warns(UserWarning, match="the loss of 'label' .* for probabilities"):
        d.fit(X, {"label": Y, "size": X[:, :1]}, verbose=0)


@pytest.mark.parametrize("from_logits", [True, "auto"])
def test_a_calibration_error_of_a_single_probability_warns(from_logits):
    metric = ExpectedCalibrationError(from_logits=from_logits)
    small = student("sigmoid", classes=1)
    small.compile("sgd", BINARY(), metrics=[metric])
    d = Distiller(teacher("sigmoid", classes=1), small, KD())
    with pytest.warns(UserWarning, match="metric 'expected_calibration_error'"):
        d.fit(X, (X[:, :1] > 0).astype("float32"), verbose=0)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("compiled", ["student", "distiller"])
def test_a_loss_named_like_a_metric_is_refused(compiled):
    def f1(y, outputs):
        return ops.cast(y, "float32")

    def build(name):
        d = Distiller(teacher(), student(), {name: KD()})
        metric, model = keras.metrics.SparseCategoricalAccuracy(name="f1"), d.student
        if compiled == "distiller":
            metric, model = f1, d
        model.compile("sgd", SPARSE(from_logits=True), metrics=[metric])
        return d

    d = build("f1")
    with pytest.raises(ValueError, match="a metric are both called 'f1'.*another name"):
        d.fit(X, Y, verbose=0)
    assert same(numbers(d.student), student())
    build("kd").fit(X, Y, verbose=0)
