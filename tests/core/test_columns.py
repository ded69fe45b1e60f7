"""Columns travel with the inputs, and reach losses but no model."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.columns import get_columns
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import DistillationLoss
from keras_dtkd.teachers import Stored, with_sample_ids
from keras_dtkd.teachers.sample_ids import model_inputs, split_sample_ids
from tests.tiny_models import data, student, teacher

X, Y = data(8)
COLUMN = np.arange(8.0)
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}


class Column(DistillationLoss):
    """A column of the batch as its loss."""

    def compute(self, step):
        assert step.x.shape[1:] == X.shape[1:]
        return step.columns["number"] * 1.0


def test_columns_reach_the_loss_and_the_models_get_the_inputs_alone():
    x = with_columns(X, number=COLUMN.astype("float32"), other=COLUMN)
    d = Distiller(teacher(), student(), Column())
    logs = d.fit(x, Y, validation_data=(x, Y), **OPTIONS).history
    assert logs["column"] == [COLUMN.mean()]
    expected = d.student.predict(X, verbose=0)
    assert np.array_equal(d.predict(x, verbose=0), expected)
    assert d.evaluate(x, Y, verbose=0) == d.evaluate(X, Y, verbose=0)


def test_columns_and_sample_ids_are_given_in_any_order():
    stored = Stored(teacher().predict(X, verbose=0))
    ids = np.arange(8)
    one = with_columns(with_sample_ids(X, ids), number=COLUMN)
    other = with_sample_ids(with_columns(X, number=COLUMN), ids)
    # All samples in order: their ids are added.
    for x in (one, other, with_columns(X, number=COLUMN)):
        logs = Distiller(stored, student(), Column()).fit(x, Y, **OPTIONS).history
        assert logs["column"] == [COLUMN.mean()]
    for x in (one, other):
        assert model_inputs(x) is X
        assert np.array_equal(split_sample_ids(x)[1], ids)
        assert np.array_equal(get_columns(x)["number"], COLUMN)


def test_batches_of_a_generator_may_bring_columns():
    batches = [
        (
            {"inputs": X[i : i + 4], "columns": {"number": COLUMN[i : i + 4]}},
            Y[i : i + 4],
        )
        for i in (0, 4)
    ]
    logs = Distiller(teacher(), student(), Column()).fit(iter(batches), verbose=0)
    assert logs.history["column"] == [COLUMN.mean()]


def test_further_columns_are_added():
    x = with_columns(with_columns(X, a=COLUMN), b=COLUMN)
    assert set(get_columns(x)) == {"a", "b"} and model_inputs(x) is X


def test_inputs_that_are_called_like_ours_stay_inputs():
    for x in ({"inputs": X}, {"inputs": X, "other": X}, {"columns": X}):
        assert model_inputs(x) is x and get_columns(x) == {}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("wrong", [COLUMN[:5], 3.0, COLUMN.astype(str)])
def test_a_column_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="the column 'wrong' must hold numbers"):
        with_columns(X, wrong=wrong)
    with pytest.raises(ValueError, match="no columns"):
        with_columns(X)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="tensors of PyTorch")
def test_tensors_that_numpy_cannot_read_are_taken():
    # As those on a GPU: NumPy refuses tensors with a gradient too.
    values = keras.ops.convert_to_tensor(X[:, :4]).requires_grad_()
    x = with_sample_ids(with_columns(X, score=values))
    np.testing.assert_array_equal(x["columns"]["score"], X[:, :4])
    stored = keras.ops.convert_to_numpy(Stored(values).variables[0])
    np.testing.assert_array_equal(stored, X[:, :4])
