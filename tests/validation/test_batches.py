"""Data, batches and arguments of `fit` that cannot be trained on: one sentence each."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, losses, temperatures
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Stored
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    data,
    numbers,
    same,
    sequence,
    student,
    teacher,
)

pytestmark = pytest.mark.invariant(number=10)
X, Y = data(32)


def generator():
    yield X, Y


class NoBatches(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, index):
        raise AssertionError("It has no batch.")


NO_DATA = {
    "empty arrays": ((X[:0], Y[:0]), "holds no samples"),
    "empty generator": ((iter(()),), "holds no samples"),
    "empty batch": ((iter([(X[:0], Y[:0])]),), "first batch of the data holds no samp"),
    "empty data set": ((NoBatches(),), "holds no samples"),
    "generator not called": ((generator,), r"Call it: `generator\(\)`"),
    "nothing": ((None,), "gives no batches, but is None"),
    "nothing in a list": (([None], Y), "are None, and they are not optional"),
    "an object": ((object(),), "gives no batches, but is object"),
}


def refused(message, d=None, *args, **kwargs):
    d = d or Distiller(teacher(), student(), KD())
    before = numbers(d.student)
    with pytest.raises((TypeError, ValueError), match=message):
        d.fit(*(args or (X, Y)), verbose=0, **kwargs)
    assert same(before, d.student)


@pytest.mark.parametrize("case", NO_DATA)
def test_no_data(case):
    args, message = NO_DATA[case]
    refused(message, None, *args)


@pytest.mark.parametrize("batch_size", [0, -4, 16.0, "16", True])
def test_a_batch_size_that_is_no_whole_number(batch_size):
    refused("`batch_size` must be an integer of at least 1", batch_size=batch_size)


COUPLED = {
    "ckd": losses.CKD,
    "cskd": losses.CSKD,
    "dist": losses.DIST,
    "r2kd": losses.R2KD,
    "cosine similarity": lambda: KD(temperatures.CosineSimilarity()),
}


@pytest.mark.parametrize("case", COUPLED)
def test_a_loss_over_samples_with_batches_of_one(case):
    d = Distiller(teacher(), student(), COUPLED[case]())
    with pytest.warns(UserWarning, match="samples of a batch.*have 1.*batch_size=32"):
        d.fit(X[:2], Y[:2], batch_size=1, verbose=0)


@pytest.mark.filterwarnings("error::UserWarning")
def test_positions_of_a_sequence_are_samples_too():
    x = np.array([[1, 2, 3, 1]] * 4)
    d = Distiller(sequence(1), sequence(2), losses.DIST())
    d.fit(x, batch_size=1, verbose=0)


def test_the_teachers_optimizer():
    large, small = teacher(compiled=True), student()
    small.compile(large.optimizer, keras.losses.SparseCategoricalCrossentropy(True))
    refused("the teacher's very own", Distiller(large, small, KD()))
    refused("the teacher's very own", Distiller([teacher(), large], small, KD()))


def test_nan_in_stored_outputs_is_not_blamed_on_weights():
    outputs = np.zeros((32, CLASSES), "float32")
    outputs[3, 1] = np.nan
    refused("stored outputs hold NaN", Distiller(Stored(outputs), student(), KD()))


def test_classes_excluded_in_stored_outputs_are_no_fault():
    outputs = np.zeros((32, CLASSES), "float32")
    outputs[:, 1] = -np.inf
    d = Distiller(Stored(outputs), student(), KD())
    assert np.isfinite(d.fit(X, verbose=0).history["kd"]).all()


@pytest.mark.parametrize("name", ["b", "_b"])
def test_optional_inputs_may_be_left_out(name):
    class Add(keras.layers.Layer):
        def call(self, a, b=None):
            return a if b is None else a + b

        def compute_output_shape(self, a_shape, b_shape=None):
            return a_shape

    def build():
        a = keras.Input((FEATURES,), name="a")
        b = keras.Input((FEATURES,), name=name, optional=True)
        return keras.Model({"a": a, name: b}, keras.layers.Dense(CLASSES)(Add()(a, b)))

    d = Distiller(build(), build(), KD())
    d.fit({"a": X, name: None}, Y, verbose=0)
    d.evaluate({"a": X, name: None}, Y, verbose=0)
    d.train_on_batch({"a": X, name: None}, Y)
    assert d.predict({"a": X, name: None}, verbose=0).shape == (32, CLASSES)


def test_outputs_nested_two_deep_are_named_by_their_path(tmp_path):
    ce = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def build():
        inputs = keras.Input((FEATURES,))
        dense = keras.layers.Dense
        a = {"b": dense(CLASSES)(inputs), "c": dense(1)(inputs)}
        return keras.Model(inputs, {"a": a, "d": dense(CLASSES)(inputs)})

    small = build()
    small.compile("sgd", {"a": {"b": ce, "c": "mse"}, "d": ce})
    y = {"a": {"b": Y, "c": X[:, :1]}, "d": Y}
    refused(
        "Choose one with `output=`. There are: 'a/b', 'a/c', 'd'",
        Distiller(build(), small, KD()),
        X,
        y,
    )
    several = {"first": KD(output="a/b"), "second": KD(output="d")}
    d = Distiller(build(), small, several)
    logs = d.fit(X, y, verbose=0).history
    assert {"first", "second", "a/b_loss", "d_loss"} <= set(logs)
    found = d.evaluate(X, y, verbose=0, return_dict=True)
    d.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    assert loaded.evaluate(X, y, verbose=0, return_dict=True) == pytest.approx(found)


def test_a_student_that_is_mostly_frozen_is_named():
    small = student(width=64)
    small.layers[0].trainable = False
    with pytest.warns(UserWarning, match="260 of the student's 708 weights are traine"):
        Distiller(teacher(), small, KD()).fit(X, Y, verbose=0)
    small = student()
    small.quantize("int8")
    with pytest.warns(UserWarning, match="frozen, or quantized as student/dense"):
        Distiller(teacher(), small, KD()).fit(X, Y, verbose=0)
